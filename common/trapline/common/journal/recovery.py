"""What to do with a partition whose writer died: keep what was committed, cut the rest, lose nothing silently."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import NamedTuple

from trapline.common.journal.layout import (
    HEADER_BYTES,
    intact,
    plausible,
    read_header,
    segment_files,
)

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)


class Tail(NamedTuple):
    """Where the next record goes."""

    segment: Path | None
    offset: int
    next_seq: int
    t_us: int
    """time of the last record, 0 when the newest segment is empty"""
    torn: Path | None
    """file that keeps what was cut; None when nothing was"""


def recover(directory: Path) -> Tail:
    """Find the end of a partition, and make everything behind it zero again.

    Only the newest segment can be damaged: a segment is synced before the next one is made.
    What stands behind the last intact record with a header of its own was torn by a power cut: it is kept beside the
    journal in a file ``torn-SEQ.bin``. Bytes without a header are a record that was never committed.
    """
    files = segment_files(directory)
    if not files:
        return Tail(None, 0, 0, 0, None)
    first_seq, path = files[-1]
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        offset, next_seq, t_us = _walk(memoryview(view), first_seq)
        torn = None
        if offset + 4 <= len(view) and view[offset : offset + 4] != bytes(4):
            torn = _keep_aside(directory, view, offset, next_seq)
        _zero(file.fileno(), view, offset)
        os.fsync(file.fileno())
    return Tail(path, offset, next_seq, t_us, torn)


def _walk(segment: memoryview, first_seq: int) -> tuple[int, int, int]:
    """Return the offset and the seq behind the last intact record, and its time."""
    offset, seq, t_us = 0, first_seq, 0
    try:
        while offset + HEADER_BYTES <= len(segment):
            header = read_header(segment, offset)
            room = len(segment) - offset - HEADER_BYTES
            if not plausible(header, seq, room) or not intact(segment, offset, header):
                break
            offset += HEADER_BYTES + header.size
            seq += 1
            t_us = header.t_us
        return offset, seq, t_us
    finally:
        segment.release()


def _keep_aside(directory: Path, view: mmap.mmap, offset: int, seq: int) -> Path:
    end = _last_byte(view, offset)
    path = directory / f"torn-{seq:020d}.bin"
    path.write_bytes(view[offset:end])
    return path


def _last_byte(view: mmap.mmap, offset: int) -> int:
    end = len(view)
    while end > offset:
        start = max(offset, end - _CHUNK)
        chunk = view[start:end].rstrip(b"\0")
        if chunk:
            return start + len(chunk)
        end = start
    return offset


def _zero(descriptor: int, view: mmap.mmap, offset: int) -> None:
    # A stale header further on could stand exactly where a reader will look for the next one.
    for start in range(offset, len(view), _CHUNK):
        length = min(_CHUNK, len(view) - start)
        if view[start : start + length] != _ZEROS[:length]:
            os.pwrite(descriptor, _ZEROS[:length], start)
