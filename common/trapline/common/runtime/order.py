"""In which order a fold takes its inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from trapline.common.channel import Record
from trapline.schemas.header import Place

PartitionKey = tuple[str, str]


class Step(NamedTuple):
    """Inputs that a fold takes together.

    `skipped` are those that it noted it cannot take; `late` those that others, later in order, were taken before.
    """

    records: tuple[Record, ...]
    skipped: bool = False
    late: bool = False

    @property
    def places(self) -> list[Place]:
        """Where the inputs stand."""
        return [record.place for record in self.records]


class Order(Protocol):
    """Decides what a fold takes next: pure, with the time given from outside."""

    def offer(self, record: Record) -> None:
        """Take notice of an input that was read."""
        ...

    def take(self, now: float) -> Step | None:
        """Return what is next; None when that is not here yet."""
        ...

    def follow(self, decided: Iterable[Sequence[Place]]) -> None:
        """Repeat, in this order, what was decided before: the places that each output consumed."""
        ...

    def skip(self, places: Iterable[Place]) -> None:
        """Mark inputs that the fold cannot take."""
        ...

    def seen(self, keys: Iterable[PartitionKey], *, caught_up: bool) -> None:
        """Take notice of which partitions were read, and whether all of them to their ends."""
        ...

    def progress(self) -> dict[PartitionKey, Consumed]:
        """Return what was consumed of each partition."""
        ...

    def buffered(self) -> int:
        """Return how many inputs wait."""
        ...

    def restore(self, progress: dict[PartitionKey, Consumed]) -> None:
        """Take up what was consumed before a restart."""
        ...


@dataclass(slots=True)
class Consumed:
    """What was consumed of a partition: everything before `floor`, and `above` it."""

    floor: int = 0
    above: set[int] = field(default_factory=set)

    def add(self, seq: int) -> None:
        """Note a consumed record."""
        if seq < self.floor:
            return
        self.above.add(seq)
        while self.floor in self.above:
            self.above.discard(self.floor)
            self.floor += 1

    def skip_to(self, seq: int) -> None:
        """Note that records before `seq` are gone: they will never be consumed."""
        self.floor = max(self.floor, seq)
        self.above = {s for s in self.above if s >= self.floor}
        while self.floor in self.above:
            self.above.discard(self.floor)
            self.floor += 1

    def __contains__(self, seq: int) -> bool:
        return seq < self.floor or seq in self.above


class ArrivalOrder:
    """One input at a time, each partition in its own order. It decides nothing: replay needs no script."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._consumed: dict[PartitionKey, Consumed] = {}
        self._skipped: set[tuple[str, str, int]] = set()

    def offer(self, record: Record) -> None:
        """Take notice of an input, unless it was consumed before the restart."""
        key = (record.place.channel, record.place.partition)
        if record.place.seq not in self._consumed.setdefault(key, Consumed(record.place.seq)):
            self._records.append(record)

    def take(self, now: float) -> Step | None:  # noqa: ARG002
        """Return the input that came first."""
        if not self._records:
            return None
        record = self._records.popleft()
        place = record.place
        self._consumed[place.channel, place.partition].add(place.seq)
        return Step((record,), (place.channel, place.partition, place.seq) in self._skipped)

    def follow(self, decided: Iterable[Sequence[Place]]) -> None:
        """Do nothing: a partition has one order."""

    def skip(self, places: Iterable[Place]) -> None:
        """Mark inputs that the fold cannot take."""
        self._skipped |= {(p.channel, p.partition, p.seq) for p in places}

    def seen(self, keys: Iterable[PartitionKey], *, caught_up: bool) -> None:
        """Do nothing: no partition waits for another."""

    def progress(self) -> dict[PartitionKey, Consumed]:
        """Return what was consumed of each partition."""
        return self._consumed

    def buffered(self) -> int:
        """Return how many inputs wait."""
        return len(self._records)

    def restore(self, progress: dict[PartitionKey, Consumed]) -> None:
        """Take up what was consumed before a restart."""
        self._consumed = progress


def pack_progress(progress: dict[PartitionKey, Consumed]) -> list[list[Any]]:
    """Return progress as plain values, for a snapshot."""
    return [[c, p, done.floor, sorted(done.above)] for (c, p), done in sorted(progress.items())]


def unpack_progress(values: Iterable[Sequence[Any]]) -> dict[PartitionKey, Consumed]:
    """Return progress from plain values: the inverse of `pack_progress`."""
    return {(c, p): Consumed(floor, set(above)) for c, p, floor, above in values}
