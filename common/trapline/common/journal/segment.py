"""A segment file in memory, and where its records are."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from trapline.common.journal.epochs import Epochs
from trapline.common.journal.layout import HEADER_BYTES, intact, plausible, read_header
from trapline.common.journal.spares import map_segment


@dataclass(slots=True)
class Segment:
    """A mapped segment file and where its records begin."""

    first_seq: int
    path: Path
    view: memoryview
    inode: int
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    end: int = 0
    epoch: int = 0

    @property
    def next_seq(self) -> int:
        """Seq behind its last record."""
        return self.first_seq + len(self.offsets)

    def walk(self, *, check: Epochs | None = None) -> None:
        """Take notice of records that were appended since; with `check`, of those that recovery will keep."""
        view, end, seq = self.view, self.end, self.next_seq
        room = len(view) - HEADER_BYTES - end
        while room >= 0:
            header = read_header(view, end)
            if not plausible(header, seq, room):
                break
            if check and not (check.holds(header.epoch, seq) and intact(view, end, header)):
                break
            self.offsets.append(end)
            self.times.append(header.t_us)
            self.epoch = header.epoch
            seq += 1
            end += HEADER_BYTES + header.size
            room -= HEADER_BYTES + header.size
        self.end = end

    def is_replaced(self) -> bool:
        """Tell whether another file has its name: a segment without a record makes way for one with more room."""
        return not self.offsets and self.path.exists() and self.path.stat().st_ino != self.inode

    def is_there(self) -> bool:
        """Tell whether the file still has its name."""
        try:
            return self.path.stat().st_ino == self.inode
        except FileNotFoundError:
            return False

    def walk_again(self, *, check: Epochs | None = None) -> None:
        """Look at all records as if for the first time."""
        self.end, self.offsets, self.times = 0, array("Q"), array("q")
        self.walk(check=check)


def open_segment(first_seq: int, path: Path) -> Segment:
    """Map a segment file; `FileNotFoundError` when it is no more, or is just being given up."""
    view, inode = map_segment(path)
    return Segment(first_seq, path, view, inode)
