"""Single records of a partition, by seq, from the files of this host.

Whoever maps a segment keeps its space on the disk. Here a map lives as long as the record that was asked for, and no
longer; what is remembered is where records begin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path

from trapline.common.journal.epochs import EpochsFile
from trapline.common.journal.layout import HEADER_BYTES, describe_record, plausible, read_header, segment_files
from trapline.common.journal.reader import Slab
from trapline.common.journal.segment import Segment, open_segment

_MOST_KNOWN = 64  # segments of which is remembered where their records begin
_NO_MAP = memoryview(b"")


class SingleReader:
    """Reads one record after the other of a partition, in any order, by one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._epochs = EpochsFile(directory)
        self._files: list[tuple[int, Path]] = []
        self._known: OrderedDict[Path, Segment] = OrderedDict()

    def read(self, seq: int, epoch: int) -> Slab | None:
        """Return the record of a seq and an epoch; None when it cannot be had here: dropped, damaged, or in doubt."""
        if self._epochs.read().in_doubt:
            # Only its checksum tells whether it outlived the power cut, and only its writer whether it stays.
            return None
        if (found := self._look(seq, epoch)) is None:
            self._files = segment_files(self._directory)
            found = self._look(seq, epoch)
        return found

    def _look(self, seq: int, epoch: int) -> Slab | None:
        """Return a record if it is in the file that holds it, as far as files are known."""
        number = bisect_right(self._files, seq, key=lambda file: file[0]) - 1
        if number < 0:
            return None
        try:
            segment = self._walked(*self._files[number])
        except (OSError, ValueError):
            return None  # given up, or about to begin
        try:
            return _record(segment, seq, epoch)
        finally:
            segment.view = _NO_MAP

    def _walked(self, first_seq: int, path: Path) -> Segment:
        """Return a segment, mapped, with all records that are in it by now."""
        opened = open_segment(first_seq, path)
        known = self._known.pop(path, opened)
        segment = self._known[path] = known if known.inode == opened.inode else opened
        segment.view = opened.view
        segment.walk()
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return segment


def _record(segment: Segment, seq: int, epoch: int) -> Slab | None:
    if seq >= segment.next_seq:
        return None
    view, start = segment.view, segment.offsets[seq - segment.first_seq]
    header = read_header(view, start)
    if header.epoch != epoch or not plausible(header, seq, len(view) - HEADER_BYTES - start):
        return None
    row, size = describe_record(view, start, start), HEADER_BYTES + header.size
    if any(offset + length > size for offset, length in zip(row[3::2], row[4::2], strict=True)):
        return None  # what is damaged may say that it is longer
    return Slab(view[start : start + size], [row])
