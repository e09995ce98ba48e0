"""Reading a partition from its mapped segments: nothing is copied, and the writer never knows."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trapline.common.journal.epochs import Epochs, EpochsFile
from trapline.common.journal.layout import (
    describe_record,
    intact,
    read_header,
    segment_files,
    segment_path,
)
from trapline.common.journal.recovery import synced_before
from trapline.common.journal.segment import Segment, open_segment
from trapline.common.journal.spares import give_up

_CLOCK_NS = 100_000_000
_LISTINGS = 4


class Entry(NamedTuple):
    """A record in a slab: its place, when it was appended, and (offset in the slab, length) of its frames."""

    seq: int
    epoch: int
    t_us: int
    spans: list[tuple[int, int]]


class Damage(NamedTuple):
    """Records `seq` to before `end_seq` that are not what was written, from `offset` in a segment file on."""

    path: Path
    seq: int
    end_seq: int
    offset: int


class Slab(NamedTuple):
    """Records that stand one after the other in a segment, as one buffer."""

    data: memoryview
    rows: list[list[int]]
    """of each record ``[seq, epoch, t_us, offset, length, offset, length, ...]``, as answers of a relay say it"""

    @property
    def entries(self) -> list[Entry]:
        """Return the same with names."""
        return [Entry(row[0], row[1], row[2], list(zip(row[3::2], row[4::2], strict=True))) for row in self.rows]


class PartitionReader:
    """Reads one partition, from any record that is still there, while its writer goes on.

    A segment whose records end before the next one begins was damaged: `readable_from` tells where it goes on. After a
    power cut the checksums of the newest segment decide where it ends, until a writer has cut what is torn.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._segments: list[Segment] = []
        self._listed_ns = -1
        self._known = Epochs()
        self._epochs = EpochsFile(directory)
        self.refresh()

    @property
    def first_seq(self) -> int:
        """Seq of the oldest record that is still there."""
        return self._segments[0].first_seq if self._segments else 0

    @property
    def next_seq(self) -> int:
        """Seq that the next record will get."""
        return self._segments[-1].next_seq if self._segments else 0

    @property
    def epoch(self) -> int:
        """Epoch of the newest record."""
        return self._segments[-1].epoch if self._segments else 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all segment files."""
        return sum(len(s.view) for s in self._segments)

    @property
    def segment_bytes(self) -> int:
        """Bytes of the newest segment file; 0 without one."""
        return len(self._segments[-1].view) if self._segments else 0

    @property
    def data_bytes(self) -> int:
        """Bytes of all records that are still there."""
        return sum(s.end for s in self._segments)

    @property
    def segment_count(self) -> int:
        """Number of segment files."""
        return len(self._segments)

    def epochs(self) -> Epochs:
        """Return the epochs of the partition, as its writer last wrote them."""
        return self._epochs.read()

    @property
    def _doubt(self) -> Epochs | None:
        return self._known if self._known.in_doubt else None

    def refresh(self) -> bool:
        """Take notice of new records, and return whether there are any."""
        before = self.next_seq
        if not self._segments:
            self.rescan()
        while self._segments:
            self._segments[-1].walk(check=self._doubt)
            # The next segment is named by its first record: it exists only when this one is complete.
            seq = self.next_seq
            path = segment_path(self.directory, seq)
            if self._segments[-1].is_replaced():
                self._segments.pop()
            elif path == self._segments[-1].path or not path.exists():
                break
            try:
                self._segments.append(open_segment(seq, path))
            except FileNotFoundError:
                break  # given up just now, or about to begin
        return self.next_seq > before

    def rescan(self) -> bool:
        """Take notice of segment files that came otherwise than by the writer's going on; return whether any did.

        Such are those of a partition that is new, was repaired, or goes on behind a damaged record. A partition that is
        not there has none.
        """
        try:
            changed_ns = self.directory.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed_ns == self._listed_ns:
            return False
        held = {segment.first_seq for segment in self._segments if not segment.is_replaced()}
        self._segments = [segment for segment in self._segments if segment.first_seq in held]
        new = self._map_new(held)
        # Clocks of file systems tick every few milliseconds: what changes next may have the same time.
        self._listed_ns = changed_ns if time.time_ns() - changed_ns > _CLOCK_NS else -1
        self._segments = sorted([*self._segments, *new], key=lambda segment: segment.first_seq)
        before, self._known = self._known, self._epochs.read()
        if before.current != self._known.current:
            # A writer that found the end torn may have put the last segment aside.
            self._segments = [segment for segment in self._segments if segment.is_there()]
        # Also those that were the last one until now, and may have been written to since.
        for segment in self._segments[:-1]:
            segment.walk()
        if self._known.in_doubt:
            self._leave_torn_off()
        if self._segments and before.current != self._known.current:
            # A writer that found it unclosed may have cut it.
            self._segments[-1].walk_again(check=self._doubt)
        elif self._segments:
            self._segments[-1].walk(check=self._doubt)
        return bool(new)

    def _map_new(self, held: set[int]) -> list[Segment]:
        """Map the segments that are not held; what retention took between listing and mapping is listed again."""
        for _ in range(_LISTINGS - 1):
            with contextlib.suppress(FileNotFoundError):
                return [open_segment(seq, path) for seq, path in segment_files(self.directory) if seq not in held]
        return [open_segment(seq, path) for seq, path in segment_files(self.directory) if seq not in held]

    def _leave_torn_off(self) -> None:
        """Leave out a segment behind a torn one: recovery will put it aside, for the same reason."""
        if len(self._segments) > 1 and self._segments[-2].first_seq >= synced_before(self.directory):
            before, newest = self._segments[-2:]
            before.walk_again(check=self._known)
            if before.next_seq < newest.first_seq:
                self._segments.pop()

    def readable_from(self, seq: int) -> int:
        """Return the first record at or behind `seq` that can be read: `seq` itself unless damage swallowed it.

        Raises
        ------
        IndexError
            As `slab`.
        """
        if seq == self.next_seq:
            return seq
        i = self._number_of(seq)
        return seq if seq < self._segments[i].next_seq else self._segments[i + 1].first_seq

    def drop_before(self, seq: int, *, keep_spares: bool = False) -> int:
        """Take away sealed segments whose records are all before `seq`, and return their bytes.

        Whoever still reads them keeps his mapping: the space is given back when he lets go. With `keep_spares` the
        writer may get some of the files for new records.
        """
        freed = 0
        while len(self._segments) > 1 and self._segments[1].first_seq <= seq:
            # Our own map must be gone before the file can be a spare.
            path = self._segments.pop(0).path
            freed += give_up(path, keep=keep_spares)
        return freed

    def sealed(self) -> Iterator[tuple[int, int, int]]:
        """Yield (seq behind the last record, time of the last record in us, bytes) of the sealed segments, in order."""
        for segment in self._segments[:-1]:
            yield segment.next_seq, segment.times[-1] if segment.times else 0, len(segment.view)

    def slab(self, seq: int, *, max_bytes: int, max_records: int) -> Slab:
        """Return records from `seq` on that stand together: at least one if there is one, then up to the bounds.

        Raises
        ------
        IndexError
            When `seq` is before `first_seq` or behind `next_seq`, or damaged: see `readable_from`.
        """
        if seq == self.next_seq:
            return Slab(memoryview(b""), [])
        segment = self._segment_of(seq)
        first = seq - segment.first_seq
        start = segment.offsets[first]
        last = bisect_right(segment.offsets, start + max_bytes) - 1
        if start + max_bytes >= segment.end:
            last = len(segment.offsets)
        last = max(first + 1, min(last, first + max_records, len(segment.offsets)))
        end = segment.offsets[last] if last < len(segment.offsets) else segment.end
        rows = [describe_record(segment.view, offset, start) for offset in segment.offsets[first:last]]
        return Slab(segment.view[start:end], rows)

    def first_frames(self, since: int) -> Iterator[tuple[Entry, memoryview]]:
        """Yield the records from `since` on, each with its first frame, past what is dropped or damaged."""
        seq = max(since, self.first_seq)
        while seq < self.next_seq and (seq := self.readable_from(seq)) < self.next_seq:
            slab = self.slab(seq, max_bytes=1 << 40, max_records=1000)
            for entry in slab.entries:
                start, length = entry.spans[0] if entry.spans else (0, 0)
                yield entry, slab.data[start : start + length]
            seq += len(slab.rows)

    def time_of(self, seq: int) -> int:
        """Return when a record was appended, in microseconds; IndexError as `slab`."""
        segment = self._segment_of(seq)
        return segment.times[seq - segment.first_seq]

    def seq_at(self, t_us: int) -> int:
        """Return the seq of the first record that was appended at or after a time."""
        # An empty segment is the newest, or damaged at its first record: its neighbours know.
        filled = [segment for segment in self._segments if segment.times]
        i = bisect_left(filled, t_us, key=lambda segment: segment.times[-1])
        if i == len(filled):
            return self.next_seq
        return filled[i].first_seq + bisect_left(filled[i].times, t_us)

    def verify(self) -> Iterator[Damage]:
        """Yield every record whose checksum is wrong, and every stretch that cannot be read: reads everything."""
        for i, segment in enumerate(self._segments):
            for number, offset in enumerate(segment.offsets):
                if not intact(segment.view, offset, read_header(segment.view, offset)):
                    seq = segment.first_seq + number
                    yield Damage(segment.path, seq, seq + 1, offset)
            if i + 1 < len(self._segments) and segment.next_seq < self._segments[i + 1].first_seq:
                yield Damage(segment.path, segment.next_seq, self._segments[i + 1].first_seq, segment.end)

    def _segment_of(self, seq: int) -> Segment:
        segment = self._segments[self._number_of(seq)]
        if seq >= segment.next_seq:
            raise IndexError(f"{segment.path} is damaged from record {segment.next_seq} on, {seq} cannot be read")
        return segment

    def _number_of(self, seq: int) -> int:
        if not self.first_seq <= seq < self.next_seq:
            raise IndexError(f"{self.directory} holds {self.first_seq} to {self.next_seq - 1}, not {seq}")
        return bisect_right(self._segments, seq, key=lambda s: s.first_seq) - 1
