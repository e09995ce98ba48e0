"""A partition on its writer's local disk: append-only segment files that anyone on the host may read."""

from trapline.common.journal.reader import Entry, PartitionReader, Slab
from trapline.common.journal.writer import DEFAULT_SEGMENT_BYTES, JournalError, JournalWriter, now_us

__all__ = ["DEFAULT_SEGMENT_BYTES", "Entry", "JournalError", "JournalWriter", "PartitionReader", "Slab", "now_us"]
