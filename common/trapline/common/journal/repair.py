"""Mending a partition that nobody writes: damage is kept aside, and what stands behind it can be read again."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from trapline.common.journal.epochs import Epochs, load_epochs, sync_directory
from trapline.common.journal.layout import (
    ALIGN,
    HEADER_BYTES,
    MAGIC,
    RecordHeader,
    intact,
    plausible,
    read_header,
    segment_files,
    segment_path,
)
from trapline.common.journal.writer import JournalWriter

_MAGIC = MAGIC.to_bytes(4, "little")


class Run(NamedTuple):
    """Intact records that follow one another: from `seq` to before `end_seq`, the bytes from `start` to `end`."""

    seq: int
    end_seq: int
    start: int
    end: int


class Mended(NamedTuple):
    """What was done to a segment: where the damaged file is now, and the runs that can be read."""

    kept: Path
    runs: list[Run]


def repair(directory: Path) -> Iterator[Mended]:
    """Cut the torn tail of a partition, and split segments around damaged records; yield what was mended.

    Raises
    ------
    JournalError
        When somebody writes the partition.
    """
    # A writer recovers the tail when it opens, and its lock keeps others out until this is done.
    with JournalWriter(directory):
        files = segment_files(directory)
        for (first_seq, path), (next_first, _) in itertools.pairwise(files):
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                runs = list(intact_runs(memoryview(view), first_seq, next_first, load_epochs(directory)))
                if not _is_whole(view, runs, first_seq):
                    yield _split(directory, path, view, runs)


def _is_whole(view: mmap.mmap, runs: list[Run], first_seq: int) -> bool:
    """Return whether a segment holds one run from its beginning and nothing behind it."""
    if len(runs) != 1 or (runs[0].seq, runs[0].start) != (first_seq, 0):
        return False
    return not any(view[runs[0].end : runs[0].end + HEADER_BYTES])


def intact_runs(segment: memoryview, first_seq: int, end_seq: int, epochs: Epochs) -> Iterator[Run]:
    """Yield the runs of intact records of a segment that should hold `first_seq` to before `end_seq`."""
    with segment:
        offset, seq = 0, first_seq
        while (found := _next_record(segment, offset, seq, end_seq, epochs)) is not None:
            start, run_seq = found
            offset, seq = start, run_seq
            while seq < end_seq and (header := _record_at(segment, offset, seq, epochs)) is not None:
                offset += HEADER_BYTES + header.size
                seq += 1
            yield Run(run_seq, seq, start, offset)


def _next_record(segment: memoryview, offset: int, seq: int, end_seq: int, epochs: Epochs) -> tuple[int, int] | None:
    """Return (offset, seq) of the first intact record at or behind an offset; None when there is none."""
    if seq >= end_seq:
        return None
    data = segment.obj
    assert isinstance(data, mmap.mmap)
    at = data.find(_MAGIC, offset)
    while at >= 0 and at + HEADER_BYTES <= len(segment):
        if at % ALIGN == 0:
            found = read_header(segment, at).seq
            if seq <= found < end_seq and _record_at(segment, at, found, epochs) is not None:
                return at, found
        at = data.find(_MAGIC, at + 1)
    return None


def _record_at(segment: memoryview, offset: int, seq: int, epochs: Epochs) -> RecordHeader | None:
    room = len(segment) - offset - HEADER_BYTES
    if room < 0:
        return None
    header = read_header(segment, offset)
    stands = plausible(header, seq, room) and epochs.holds(header.epoch, seq) and intact(segment, offset, header)
    return header if stands else None


def _split(directory: Path, path: Path, view: mmap.mmap, runs: list[Run]) -> Mended:
    """Write each run as a segment of its own, and put the damaged file aside."""
    for run in runs:
        new = segment_path(directory, run.seq).with_suffix(".mended")
        with new.open("wb") as file:
            file.write(view[run.start : run.end])
            file.flush()
            os.fsync(file.fileno())
    kept = path.with_name(f"damaged-{path.stem}.bin")
    path.rename(kept)
    for run in runs:
        target = segment_path(directory, run.seq)
        target.with_suffix(".mended").rename(target)
    sync_directory(directory)
    return Mended(kept, runs)
