"""The newest headers of some channels, read only when somebody wants to see them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trapline.common.channel import ChannelReader, Channels, Gap, Record
from trapline.common.relay.requests import Cursor
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header, Place

PartitionKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record without its arrays: where it stands, when it was appended (us since 1970-01-01 UTC), its header."""

    place: Place
    t_us: int
    header: Header


@dataclass
class ChannelWindow:
    """Keeps the newest records of each partition of some channels, headers only.

    Nothing is read before `refresh` is called; one that comes late skips what nobody looked at.

    Parameters
    ----------
    connection
        To the relay.
    depth
        How many records of each partition are kept, by channel.
    """

    connection: Channels
    depth: Mapping[str, int]
    info: dict[str, Any] | None = None
    """the relay's last answer to `info`"""
    skipped: int = 0
    """records that are no known messages"""
    versions: dict[str, int] = field(default_factory=dict)
    """grows with what was read, by channel"""
    _entries: dict[PartitionKey, deque[Entry]] = field(default_factory=dict)
    _reader: ChannelReader | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self, wait_s: float = 0.0) -> set[str]:
        """Read what is new, waiting up to `wait_s` for the first of it, and return the channels that have news.

        Raises
        ------
        RelayUnreachableError
            When the relay does not answer.
        """
        async with self._lock:
            self.info = await self.connection.info()
            self._aim(self.info)
            assert self._reader is not None
            news = self._take(await self._reader.read(wait_s))
            while not self._reader.caught_up:
                more = self._take(await self._reader.read(0.0))
                if not more:
                    break
                news |= more
            return news

    def of(self, channel: str) -> Iterator[Entry]:
        """Yield the records of a channel, partition by partition, oldest first."""
        for key, entries in sorted(self._entries.items()):
            if key[0] == channel:
                yield from entries

    def partitions(self, channel: str) -> dict[str, list[Entry]]:
        """Return the records of each partition of a channel, oldest first."""
        return {key[1]: list(entries) for key, entries in sorted(self._entries.items()) if key[0] == channel}

    def _aim(self, info: Mapping[str, Any]) -> None:
        """Put each cursor at most the channel's depth before the end: what is older would be thrown away."""
        cursors = dict(self._reader.cursors) if self._reader else {}
        for partition in info["partitions"]:
            key = (partition["channel"], partition["partition"])
            if key[0] not in self.depth:
                continue
            first = max(partition["first_seq"], partition["next_seq"] - self.depth[key[0]])
            cursor = cursors.get(key)
            if cursor is None or cursor.seq < first:
                cursors[key] = Cursor(*key, seq=first)
        if self._reader is None:
            self._reader = ChannelReader(
                self.connection, tuple(self.depth), positions=cursors.values(), headers_only=True
            )
        self._reader.cursors = cursors

    def _take(self, items: list[Record | Gap]) -> set[str]:
        news = set()
        for item in items:
            if isinstance(item, Gap):
                self._void(item)
                continue
            key = (item.place.channel, item.place.partition)
            try:
                entry = Entry(item.place, item.t_us, item.header)
            except SchemaError:
                self.skipped += 1
                continue
            self._entries.setdefault(key, deque(maxlen=self.depth[key[0]])).append(entry)
            news.add(key[0])
        for channel in news:
            self.versions[channel] = self.versions.get(channel, 0) + 1
        return news

    def _void(self, gap: Gap) -> None:
        """Forget what the writer lost in a power cut after it was read here."""
        entries = self._entries.get((gap.channel, gap.partition))
        while entries and gap.reason == "lost" and entries[-1].place.seq >= gap.first_seq:
            entries.pop()
