"""What to do with a partition whose writer died: keep what was committed, cut the rest, lose nothing silently."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import NamedTuple

from trapline.common.journal.epochs import Epochs, load_epochs, sync_directory
from trapline.common.journal.layout import (
    HEADER_BYTES,
    MAGIC,
    intact,
    plausible,
    read_header,
    segment_files,
)
from trapline.common.journal.spares import drop_spares

_CHUNK = 1 << 20
_MARK = "synced"


class Tail(NamedTuple):
    """Where the next record goes."""

    segment: Path | None
    offset: int
    next_seq: int
    t_us: int
    """time of the last record, 0 when the newest segment is empty"""
    torn: Path | None
    """file that keeps what was cut; None when nothing was"""


def mark_synced(directory: Path, seq: int) -> None:
    """Note that all segments before the one that begins with `seq` are synced.

    The note itself is not, and on a full disk it is not made: without it recovery looks at a segment more.
    """
    with contextlib.suppress(OSError):
        (directory / _MARK).write_text(f"{seq:020d}\n", encoding="ascii")


def recover(directory: Path) -> Tail:
    """Find the end of a partition, and make an end there that nobody reads past.

    Only the newest segment, and the one before unless it was synced, can have been torn by a power cut.
    What stands behind the last intact record with a header of its own is kept beside the journal in a file
    ``torn-SEQ.bin``, and a segment behind that in one of its own. Bytes without a header are a record that was never
    committed, or of an earlier segment. What is damaged further ahead was damaged later: it is a gap, and `repair`
    mends it.
    """
    files = segment_files(directory)
    while files and files[-1][1].stat().st_size < HEADER_BYTES:
        files.pop()[1].unlink()
    if not files:
        drop_spares(directory)  # their seqs come again
        return Tail(None, 0, 0, 0, None)
    if len(files) > 1 and files[-2][0] >= synced_before(directory):
        before = _end(*files[-2])
        if before.next_seq < files[-1][0]:
            behind = files[-1][1].rename(directory / f"torn-{files[-1][0]:020d}.bin")
            sync_directory(directory)
            tail = _cut(directory, before)
            return tail._replace(torn=tail.torn or behind)
    return _cut(directory, _end(*files[-1]))


def synced_before(directory: Path) -> int:
    """Return the seq before which all segments are known to be synced."""
    try:
        return int((directory / _MARK).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


def _end(first_seq: int, path: Path) -> Tail:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return Tail(path, *_walk(memoryview(view), first_seq, load_epochs(path.parent)), None)


def _cut(directory: Path, tail: Tail) -> Tail:
    """Make a segment zero behind its last record; return its end, and where what stood there is."""
    assert tail.segment is not None
    offset, torn = tail.offset, None
    with tail.segment.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        begun = offset + 4 <= len(view) and view[offset : offset + 4] != bytes(4)
        if begun and not _is_older(view, offset, tail.next_seq):
            torn = _keep_aside(directory, view, offset, tail.next_seq)
        # Enough: a writer makes an end behind each record before that can be seen.
        os.pwrite(file.fileno(), bytes(min(HEADER_BYTES, len(view) - offset)), offset)
        os.fsync(file.fileno())
    return tail._replace(torn=torn)


def _walk(segment: memoryview, first_seq: int, epochs: Epochs) -> tuple[int, int, int]:
    """Return the offset and the seq behind the last intact record, and its time."""
    offset, seq, t_us = 0, first_seq, 0
    try:
        while offset + HEADER_BYTES <= len(segment):
            header = read_header(segment, offset)
            room = len(segment) - offset - HEADER_BYTES
            if not plausible(header, seq, room) or not intact(segment, offset, header):
                break
            if not epochs.holds(header.epoch, seq):
                # What an earlier recovery cut off is still there, behind an end that did not reach the disk.
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


def _is_older(view: mmap.mmap, offset: int, seq: int) -> bool:
    """Tell whether a header is of an earlier segment, in whose file this one was begun."""
    if offset + HEADER_BYTES > len(view):
        return False
    header = read_header(view[offset : offset + HEADER_BYTES], 0)
    return header.magic == MAGIC and header.seq < seq


def _last_byte(view: mmap.mmap, offset: int) -> int:
    end = len(view)
    while end > offset:
        start = max(offset, end - _CHUNK)
        chunk = view[start:end].rstrip(b"\0")
        if chunk:
            return start + len(chunk)
        end = start
    return offset
