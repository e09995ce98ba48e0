"""How long a channel is kept: by bytes and age, by what its readers still need, and by what the disk can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from trapline.common.journal import PartitionReader
from trapline.common.journal.spares import drop_spares
from trapline.common.relay.catalogue import Catalogue
from trapline.common.relay.config import Retention
from trapline.common.relay.groups import Groups
from trapline.common.relay.partitions import Key
from trapline.common.relay.readers import Readers

Rules = Mapping[str, Retention]
"""rule by channel; ``*`` for those without one of their own"""


class Forced(NamedTuple):
    """Records that had to go although somebody needed them."""

    channel: str
    partition: str
    first_seq: int
    end_seq: int
    needed_by: list[str]
    """groups and named readers that had not done them"""


class Freed(NamedTuple):
    """What retention did."""

    size: int
    """bytes of the segments that were given up; a few are kept for their writers"""
    forced: list[Forced]


class Keeper:
    """Applies retention to the partitions of a relay.

    Parameters
    ----------
    catalogue, groups, readers
        What there is, and who needs it.
    rules
        How long each channel is kept.
    free_bytes
        Tells how much space the disk has left.
    min_free_bytes
        How much it must have.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        groups: Groups,
        readers: Readers,
        rules: Rules,
        *,
        free_bytes: Callable[[], int],
        min_free_bytes: int = 0,
    ) -> None:
        self._catalogue = catalogue
        self._groups = groups
        self._readers = readers
        self._rules = rules
        self._free_bytes = free_bytes
        self._min_free_bytes = min_free_bytes

    def is_due(self) -> bool:
        """Tell whether a writer went on to a new segment since this was last asked."""
        return self._catalogue.take_sealed() > 0

    def apply(self, now_us: int) -> Freed:
        """Take away sealed segments that are given up, and say which of them were still needed."""
        size = 0
        forced: list[Forced] = []
        scarce = self._is_scarce()
        for key, reader in self._catalogue:
            if scarce:
                drop_spares(reader.directory)  # they were counted when they were given up
            size += self._give_up(key, reader, now_us, keep_spares=not scarce)
            limit = self._rule(key).hard_limit_bytes
            while limit and reader.size_bytes > limit and self._may_drop(key, reader):
                size += self._drop_oldest(key, reader, forced)
        lacking = self._min_free_bytes - self._free_bytes()
        while lacking > 0 and (largest := max(self._droppable(), default=None)):
            _, _, key, reader = largest
            freed = self._drop_oldest(key, reader, forced)
            size, lacking = size + freed, lacking - freed
        return Freed(size, forced)

    def _is_scarce(self) -> bool:
        """Tell whether some writer would be refused its next segment, unless it has a spare."""
        largest = max((reader.segment_bytes for _, reader in self._catalogue), default=0)
        return self._free_bytes() < self._min_free_bytes + largest

    def _rule(self, key: Key) -> Retention:
        return self._rules.get(key[0]) or self._rules["*"]

    def _give_up(self, key: Key, reader: PartitionReader, now_us: int, *, keep_spares: bool) -> int:
        """Drop what is older or more than the rule keeps, as far as nobody needs it."""
        rule, pinned = self._rule(key), self._pinned(key, reader)
        excess = reader.size_bytes - rule.limit_bytes if rule.limit_bytes else 0
        oldest_us = now_us - int(rule.age_s * 1e6) if rule.age_s else 0
        target = 0
        for end_seq, end_us, size in reader.sealed():
            if end_seq > pinned or (excess <= 0 and end_us >= oldest_us):
                break
            target, excess = end_seq, excess - size
        return reader.drop_before(target, keep_spares=keep_spares)

    def _pinned(self, key: Key, reader: PartitionReader) -> int:
        """Return the first record that somebody needs."""
        pins = (self._groups.floor(*key), self._readers.floor(*key))
        return min((seq for seq in pins if seq is not None), default=reader.next_seq)

    def _may_drop(self, key: Key, reader: PartitionReader) -> bool:
        return self._rule(key).at_limit == "drop_oldest" and next(reader.sealed(), None) is not None

    def _droppable(self) -> Iterator[tuple[bool, int, Key, PartitionReader]]:
        """Yield partitions that may lose a segment, what nobody needs before what is needed, then by size."""
        for key, reader in self._catalogue:
            if self._may_drop(key, reader):
                end_seq, _, _ = next(reader.sealed())
                yield end_seq <= self._pinned(key, reader), reader.size_bytes, key, reader

    def _drop_oldest(self, key: Key, reader: PartitionReader, forced: list[Forced]) -> int:
        end_seq, _, _ = next(reader.sealed())
        first_seq, pinned = reader.first_seq, self._pinned(key, reader)
        if end_seq > pinned:
            needed_by = [*self._groups.behind(*key, end_seq), *self._readers.behind(*key, end_seq)]
            forced.append(Forced(*key, max(first_seq, pinned), end_seq, needed_by))
        return reader.drop_before(end_seq)
