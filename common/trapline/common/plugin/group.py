"""A plug-in whose workers share the records: each taken by one, again by another if that dies."""

from __future__ import annotations

from trapline.common.channel import Record
from trapline.common.journal import PartitionReader
from trapline.common.plugin.load import Plugin
from trapline.common.plugin.recording import Recorder
from trapline.common.plugin.stepping import counts, take
from trapline.common.runtime.context import Context
from trapline.common.runtime.order import PartitionKey
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message, decode_header

_REMEMBERED = 10_000


class GroupHandler:
    """What `Worker` calls with each record.

    A record that this worker has answered before, in whatever life, is not given to the functions again: what they do
    outside the mesh is repeated only if the death came between that and the answer.

    Parameters
    ----------
    context
        The process.
    floors
        Where the group began: what is older was never meant for it.
    """

    def __init__(
        self, context: Context, plugin: Plugin, floors: dict[PartitionKey, int], recorder: Recorder | None = None
    ) -> None:
        self._context = context
        self._plugin = plugin
        self._floors = floors
        self._recorder = recorder
        self._answered = {place for channel in plugin.outputs for place in self._own(channel)}

    def __call__(self, record: Record) -> list[Message[Header]]:
        """Return what the functions publish of a record."""
        place = record.place
        if place.seq < self._floors.get((place.channel, place.partition), 0):
            self._context.counters["before_start"] += 1
            return []
        if place in self._answered:
            self._context.counters["answered_before"] += 1
            return []
        before = counts.copy()
        messages = take(self._plugin, {}, record)
        self._context.counters.update(counts - before)
        for message in messages:
            message.header.consumed = [place]
        if self._recorder:
            self._recorder.keep(record, messages)
        return messages

    def _own(self, channel: str) -> list[Place]:
        reader = PartitionReader(self._context.outputs.writer(channel).directory)
        frames = reader.first_frames(reader.next_seq - _REMEMBERED)
        return [place for _, frame in frames for place in decode_header(frame).consumed]
