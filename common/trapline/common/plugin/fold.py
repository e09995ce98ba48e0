"""A plug-in that takes every record, in one order: a fold, so that no death loses or repeats what it publishes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trapline.common.plugin.load import Plugin
from trapline.common.plugin.order import TakenLog, TakenOrder
from trapline.common.plugin.recording import Recorder
from trapline.common.plugin.stepping import States, counts, initial_states, pack_states, take, unpack_states
from trapline.common.runtime.order import Order, PartitionKey, Step
from trapline.common.runtime.snapshot import restoring
from trapline.schemas.columns import Array
from trapline.schemas.header import Header
from trapline.schemas.message import Message

_VERSION = "plugin 1"


class PluginFold:
    """What `FoldRunner` needs to know of a plug-in.

    Parameters
    ----------
    plugin
        Its functions.
    log
        Of the order in which inputs were taken.
    floors
        Where to begin, by partition.
    recorder
        Keeps what goes in and out, if that is wanted.
    """

    reads_headers: tuple[str, ...] = ()

    def __init__(
        self, plugin: Plugin, log: TakenLog, floors: dict[PartitionKey, int], recorder: Recorder | None = None
    ) -> None:
        self._plugin = plugin
        self._log = log
        self._floors = floors
        self._recorder = recorder
        self.reads = plugin.reads
        self.writes = tuple(plugin.outputs)

    def order(self) -> Order:
        """Return the order in which inputs were taken, and then that of their arrival."""
        return TakenOrder(self._log, self._floors)

    def initial(self) -> States:
        """Return the states before the first record."""
        return initial_states(self._plugin)

    def step(self, state: States, inputs: Step) -> Iterable[Message[Header]]:
        """Return what the functions publish of one record."""
        if inputs.skipped:
            return ()
        messages = take(self._plugin, state, inputs.records[0])
        if self._recorder:
            self._recorder.keep(inputs.records[0], messages)
        return messages

    def dump(self, state: States) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return the states as plain values."""
        self._log.snapshot()
        return {"version": _VERSION, "states": pack_states(state)}, {}

    def load(self, header: dict[str, Any], arrays: dict[str, Array]) -> States:  # noqa: ARG002
        """Return the states that were dumped."""
        with restoring(header, _VERSION):
            return unpack_states(self._plugin, header["states"])

    def counters(self, state: States) -> Mapping[str, int]:  # noqa: ARG002
        """Return what the functions counted."""
        return dict(counts)
