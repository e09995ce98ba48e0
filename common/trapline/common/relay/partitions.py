"""What the relay's core needs of the place where records are: journals on disk, or the memory of a process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from trapline.common.journal import Slab
from trapline.common.journal.epochs import Epochs
from trapline.schemas.message import Buffer

Key = tuple[str, str]
"""(channel, partition)"""
Appended = tuple[int, int]
"""(seq, epoch)"""


class Partition(Protocol):
    """Records of one writer, in their order."""

    @property
    def first_seq(self) -> int:
        """Seq of the oldest record that is still there."""
        ...

    @property
    def next_seq(self) -> int:
        """Seq that the next record will get."""
        ...

    @property
    def epoch(self) -> int:
        """Epoch of the newest record."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes."""
        ...

    @property
    def data_bytes(self) -> int:
        """Bytes of its records."""
        ...

    def epochs(self) -> Epochs:
        """Return the epochs of the partition."""
        ...

    def readable_from(self, seq: int) -> int:
        """Return the first record at or behind `seq` that can be read."""
        ...

    def slab(self, seq: int, *, max_bytes: int, max_records: int) -> Slab:
        """Return records from `seq` on: at least one if there is one, then up to the bounds."""
        ...

    def seq_at(self, t_us: int) -> int:
        """Return the seq of the first record that was appended at or after a time."""
        ...

    def time_of(self, seq: int) -> int:
        """Return when a record was appended, in microseconds; `IndexError` when it cannot be read."""
        ...


class Partitions(Protocol):
    """All partitions of a backend. `version` grows when the list changes."""

    version: int

    def discover(self) -> bool:
        """Look for partitions that are new or gone; return whether there are any."""
        ...

    def refresh(self) -> set[Key]:
        """Take notice of new records, and return which partitions have some."""
        ...

    def refresh_one(self, key: Key) -> bool:
        """Take notice of new records in one partition, known or new."""
        ...

    def get(self, channel: str, partition: str) -> Partition | None:
        """Return a partition; None when there is none."""
        ...

    def of_channel(self, channel: str) -> Sequence[tuple[str, Partition]]:
        """Return (name, partition) of a channel, by name."""
        ...

    def __iter__(self) -> Iterator[tuple[Key, Partition]]:
        """Yield all partitions, by name."""
        ...


class Appender(Protocol):
    """Appends the records of those who have no journal of their own."""

    def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Appended:
        """Append a record unless its id is known; `RequestError` when it cannot be."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
