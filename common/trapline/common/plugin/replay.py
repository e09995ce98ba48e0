"""A plug-in over what was recorded: the same functions, as fast as they go, and nothing is published."""

from __future__ import annotations

import heapq
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trapline.common.channel import Record, parse_time_us
from trapline.common.journal import PartitionReader
from trapline.common.plugin.declare import PluginError
from trapline.common.plugin.load import Plugin
from trapline.common.plugin.stepping import initial_states, take
from trapline.common.relay.catalogue import Catalogue
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message

_SLAB_BYTES = 16 << 20
_SLAB_RECORDS = 1000
_END_US = (1 << 63) - 1


@dataclass
class Replay:
    """Replays a stretch of channels through a plug-in.

    Attributes
    ----------
    records
        How many were taken.
    failed
        Place and last line of what a function raised, of each record that would have been a dead letter.
    """

    plugin: Plugin
    journals: Path
    since_us: int = 0
    until_us: int = _END_US
    records: int = 0
    seconds: float = 0.0
    failed: list[tuple[Place, str]] = field(default_factory=list)

    def run(self) -> Iterator[tuple[Record, Message[Header]]]:
        """Yield what would have been published, each with the record that it was made of.

        Raises
        ------
        PluginError
            When there are no journals of the channels that the plug-in reads.
        """
        states, started = initial_states(self.plugin), time.perf_counter()
        for record in self._merged():
            self.records += 1
            try:
                messages = take(self.plugin, states, record)
            except Exception:  # noqa: BLE001  as in the live runtime: the stream goes on
                self.failed.append((record.place, traceback.format_exc()))
                continue
            for message in messages:
                yield record, message
        self.seconds = time.perf_counter() - started

    def _merged(self) -> Iterator[Record]:
        catalogue = Catalogue(self.journals) if self.journals.is_dir() else None
        partitions = [(key, reader) for key, reader in catalogue or () if key[0] in self.plugin.reads]
        if not partitions:
            known = ", ".join(catalogue.channels()) if catalogue else "no journals"
            raise PluginError(
                f"nothing is recorded of {', '.join(self.plugin.reads)} in {self.journals}: it has {known}"
            )
        streams = [self._records(*key, reader) for key, reader in partitions]
        return heapq.merge(*streams, key=lambda r: (r.t_us, r.place.channel, r.place.partition))

    def _records(self, channel: str, partition: str, reader: PartitionReader) -> Iterator[Record]:
        seq = max(reader.first_seq, reader.seq_at(self.since_us))
        while seq < reader.next_seq and (seq := reader.readable_from(seq)) < reader.next_seq:
            slab = reader.slab(seq, max_bytes=_SLAB_BYTES, max_records=_SLAB_RECORDS)
            for entry in slab.entries:
                if entry.t_us >= self.until_us:
                    return
                frames = [slab.data[start : start + length] for start, length in entry.spans]
                yield Record(Place(channel, partition, entry.epoch, entry.seq), entry.t_us, frames)
            seq += len(slab.rows)


def parse_span(text: str) -> tuple[int, int]:
    """Return (since, until) in microseconds of ``SINCE..UNTIL``; either may be empty, ``first`` or ``latest``.

    Raises
    ------
    PluginError
        With an example.
    """
    since, dots, until = text.partition("..")
    if not dots:
        raise PluginError(f"{text!r} is no stretch of time: SINCE..UNTIL, as 2026-01-31T20:00..2026-01-31T23:00")
    try:
        begin = 0 if since in ("", "first") else parse_time_us(since)
        end = _END_US if until in ("", "latest") else parse_time_us(until)
    except ValueError:
        raise PluginError(f"{text!r}: SINCE and UNTIL are UTC times as 2026-01-31T20:00, first, or latest") from None
    if end <= begin:
        raise PluginError(f"{text!r}: nothing is between them, UNTIL is not later than SINCE")
    return begin, end
