"""Records that a program without a journal of its own publishes through the relay."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from trapline.common.journal import JournalError, JournalWriter, PartitionReader
from trapline.common.relay.partitions import Appended
from trapline.common.relay.requests import RequestError
from trapline.schemas.columns import SchemaError
from trapline.schemas.message import Buffer
from trapline.schemas.packing import unpack_map

_REMEMBERED = 10_000


class RemoteWriters:
    """The partitions that this relay writes for others, opened when first needed."""

    def __init__(self, root: Path, make_writer: Callable[[str, Path], JournalWriter]) -> None:
        self._root = root
        self._make_writer = make_writer
        self._writers: dict[tuple[str, str], JournalWriter] = {}
        self._known: dict[tuple[str, str], OrderedDict[bytes, Appended]] = {}

    def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Appended:
        """Append a record unless its id is among the last ones; either way return where it is, synced.

        Raises
        ------
        RequestError
            When the first frame is no header with an id, or a service on this host writes the partition itself.
        """
        key = record_id(frames)
        writer = self._writer(channel, partition)
        known = self._known[channel, partition]
        if key not in known:
            known[key] = (writer.append(frames), writer.epoch)
            if len(known) > _REMEMBERED:
                known.popitem(last=False)
        writer.sync()
        return known[key]

    def close(self) -> None:
        """Close all journals."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, channel: str, partition: str) -> JournalWriter:
        key = (channel, partition)
        if key not in self._writers:
            directory = self._root / channel / partition
            try:
                writer = self._make_writer(channel, directory)
            except JournalError as error:
                raise RequestError(str(error)) from None
            self._writers[key] = writer
            self._known[key] = _recent_ids(directory)
        return self._writers[key]


def record_id(frames: Sequence[Buffer]) -> bytes:
    """Return the id that a record's header has, or raise `RequestError`."""
    try:
        record = unpack_map(frames[0]).get("id")
    except SchemaError as error:
        raise RequestError(f"the record's header: {error}") from None
    if not isinstance(record, bytes) or len(record) != 16:
        raise RequestError("the record's header needs an 'id' of 16 bytes: it makes publishing twice harmless")
    return record


def _recent_ids(directory: Path) -> OrderedDict[bytes, Appended]:
    """Return the ids of the last records, so that a publisher who asks again after a restart is recognised."""
    reader = PartitionReader(directory)
    frames = reader.first_frames(reader.next_seq - _REMEMBERED)
    return OrderedDict((record_id([frame]), (entry.seq, entry.epoch)) for entry, frame in frames)
