"""Reading channels in order, from a chosen place, with every loss made explicit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trapline.common.channel.interface import Channels
from trapline.common.channel.record import Gap, Record, unpack_gaps, unpack_slab
from trapline.common.relay.requests import Cursor, Fetch

Start = str | int
PartitionKey = tuple[str, str]


@dataclass
class ChannelReader:
    """Follows all partitions of some channels, also those that appear later.

    Parameters
    ----------
    connection
        To the relay that serves them.
    channels
        Their names.
    start
        Where to begin in a partition without a position of its own: ``"first"``, ``"latest"``, a seq, or an ISO time.
        A partition that appears later is read from its first record.
    positions
        Where to begin in known partitions: cursors of an earlier reader.
    headers_only
        Leave out all frames but the first.
    max_bytes
        Bound of what one `read` returns; a single record may be larger. The default is a few images of 1024 x 1024: one
        at a time costs reader and relay a wait for each.

    Attributes
    ----------
    cursors
        Where the next `read` begins, by (channel, partition).
    ends
        Next seq of each partition when it was last heard of.
    caught_up
        Whether the last `read` reached the end of every partition, as it then stood.
    full
        Whether the answer to the last `read` was as large as it may be, or incomplete: there may be more.
    there
        Names of all channels that have a partition, when they were last heard of.
    """

    connection: Channels
    channels: tuple[str, ...]
    start: Start = "first"
    positions: Iterable[Cursor] = ()
    headers_only: bool = False
    max_bytes: int = 16 << 20
    max_records: int = 1000
    cursors: dict[PartitionKey, Cursor] = field(init=False)
    ends: dict[PartitionKey, int] = field(init=False, default_factory=dict)
    caught_up: bool = field(init=False, default=False)
    full: bool = field(init=False, default=False)
    there: set[str] = field(init=False, default_factory=set)
    _catalogue: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.cursors = {(c.channel, c.partition): c for c in self.positions}

    async def read(self, wait_s: float = 1.0) -> list[Record | Gap]:
        """Return what came next, partition by partition; empty when nothing did within `wait_s`.

        Raises
        ------
        RelayUnreachableError
            When the relay does not answer. Nothing is lost: call again.
        """
        if self._catalogue is None:
            await self.discover()
        request = Fetch(
            cursors=self._cursors_to_ask(),
            max_bytes=self.max_bytes,
            max_records=self.max_records,
            headers_only=self.headers_only,
            wait_ms=int(wait_s * 1000),
            catalogue=self._catalogue,
        )
        reply = await self.connection.fetch(request)
        found = [
            item for d, data in zip(reply.values["slabs"], reply.buffers, strict=True) for item in self._take(d, data)
        ]
        complete = reply.values.get("complete", True)
        self.full = not complete or sum(map(len, reply.buffers)) >= self.max_bytes
        self.caught_up = not self.full and all(d["next_seq"] == d["end"] for d in reply.values["slabs"])
        if reply.values["catalogue"] != self._catalogue:
            await self.discover()
        return found

    async def discover(self) -> None:
        """Learn which partitions there are."""
        info = await self.connection.info()
        later = self._catalogue is not None
        self.there = {partition["channel"] for partition in info["partitions"]}
        for partition in info["partitions"]:
            key = (partition["channel"], partition["partition"])
            if key[0] not in self.channels:
                continue
            self.ends[key] = partition["next_seq"]
            if key not in self.cursors:
                seq = partition["first_seq"] if later else await self._first_seq(partition)
                self.cursors[key] = Cursor(*key, seq=seq)
        self._catalogue = info["catalogue"]

    def lag(self, key: PartitionKey) -> int:
        """Return how many records of a partition are known to be unread."""
        return max(0, self.ends.get(key, 0) - self.cursors[key].seq)

    def _cursors_to_ask(self) -> list[Cursor]:
        return list(self.cursors.values())

    def _take(self, description: dict[str, Any], data: memoryview) -> list[Record | Gap]:
        key = (description["channel"], description["partition"])
        cursor = self.cursors.pop(key)
        items: list[Record | Gap] = [*unpack_gaps(description, cursor.seq), *unpack_slab(description, data)]
        last = items[-1] if items else None  # gaps come first
        epoch = last.place.epoch if isinstance(last, Record) else cursor.epoch if "cut" not in description else -1
        # What was just read goes to the end of the line: a busy partition does not starve the others.
        self.cursors[key] = Cursor(*key, seq=description["next_seq"], epoch=epoch)
        self.ends[key] = description["end"]
        return items

    async def _first_seq(self, partition: dict[str, Any]) -> int:
        first, end = partition["first_seq"], partition["next_seq"]
        if isinstance(self.start, int):
            return min(max(self.start, 0), int(end))
        if self.start in ("first", "latest"):
            return int(first if self.start == "first" else end)
        t_us = parse_time_us(self.start)
        return await self.connection.find(partition["channel"], partition["partition"], t_us)


def parse_time_us(text: str) -> int:
    """Return an ISO 8601 UTC time as microseconds since 1970-01-01, or raise `ValueError` with an example."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a start: use first, latest, a seq, or a UTC time as 2026-01-31T23:59:00"
        ) from None
    utc = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (utc - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
