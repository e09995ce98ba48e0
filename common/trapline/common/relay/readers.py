"""Named readers: how far each is, and what it still needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

Key = tuple[str, str, str]
"""(reader, channel, partition)"""


class ReadPosition(NamedTuple):
    """`seq` is the next record a reader will read; records before `safe` it needs no more."""

    seq: int
    safe: int


class Readers:
    """Positions that named readers reported."""

    def __init__(self) -> None:
        self._positions: dict[Key, ReadPosition] = {}
        self._dirty: set[Key] = set()

    def report(self, reader: str, channel: str, partition: str, seq: int, safe: int) -> None:
        """Note how far a reader is. A reader that starts over may go back."""
        key = (reader, channel, partition)
        position = ReadPosition(seq, safe)
        if self._positions.get(key) != position:
            self._positions[key] = position
            self._dirty.add(key)

    def floor(self, channel: str, partition: str) -> int | None:
        """Return the lowest record that some reader needs; None when no named reader reads the partition."""
        return min((p.safe for k, p in self._positions.items() if k[1:] == (channel, partition)), default=None)

    def behind(self, channel: str, partition: str, seq: int) -> list[str]:
        """Return the readers that still need something before a record."""
        return sorted(k[0] for k, p in self._positions.items() if k[1:] == (channel, partition) and p.safe < seq)

    def of(self, reader: str) -> list[tuple[str, str, ReadPosition]]:
        """Return (channel, partition, position) of a reader, in order."""
        return sorted((k[1], k[2], position) for k, position in self._positions.items() if k[0] == reader)

    def forget(self, reader: str) -> list[tuple[str, str]]:
        """Forget a reader, and return (channel, partition) of what it read."""
        keys = sorted(key for key in self._positions if key[0] == reader)
        for key in keys:
            del self._positions[key]
            self._dirty.discard(key)
        return [(channel, partition) for _, channel, partition in keys]

    def take_dirty(self) -> Iterator[tuple[str, str, str, int, int]]:
        """Yield (reader, channel, partition, seq, safe) of what changed since it was last yielded."""
        dirty, self._dirty = self._dirty, set()
        for key in sorted(dirty):
            position = self._positions[key]
            yield (*key, position.seq, position.safe)

    def mark_dirty(self, keys: Iterable[Key]) -> None:
        """Let `take_dirty` yield these again."""
        self._dirty |= set(keys)

    def __iter__(self) -> Iterator[tuple[Key, ReadPosition]]:
        return iter(sorted(self._positions.items()))
