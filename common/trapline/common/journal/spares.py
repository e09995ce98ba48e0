"""Segment files that retention gave up, kept for the writer: to write over what exists costs half of writing anew.

A new file costs its pages and its blocks on the disk once more for every segment, and giving it up costs the same work
again. So a partition keeps a few of its old files beside the journal, and its writer goes on in them.

Whoever maps a segment holds a shared lock on it for as long as the map lives, so that no file changes under a reader:
one that is still read is unlinked as ever, and its space given back when the reader lets go. A lock goes with its
process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path
from typing import NamedTuple

MOST_SPARES = 2
_NAMES = [f"spare-{number}" for number in range(MOST_SPARES)]


class Mapped(NamedTuple):
    """A segment file in memory, and which file it is."""

    view: memoryview
    inode: int


def map_segment(path: Path) -> Mapped:
    """Map a segment file for reading, so that it stays what it is until the map is gone.

    Raises
    ------
    FileNotFoundError
        When it is no more, or is just being given up.
    """
    with path.open("rb") as file:
        descriptor = file.fileno()
        # The map keeps a copy of the descriptor, and with it the lock.
        if not _locked(descriptor, fcntl.LOCK_SH) or not _is_at(descriptor, path):
            raise FileNotFoundError(f"{path} is being given up")
        return Mapped(memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)), os.fstat(descriptor).st_ino)


def give_up(path: Path, *, keep: bool) -> int:
    """Take a segment file away, and return its bytes.

    With `keep` it becomes a spare if nobody reads it and there is room for one more; else the disk gets it back.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        spare = next((new for name in _NAMES if not (new := path.with_name(name)).exists()), None)
        if keep and spare and _locked(descriptor, fcntl.LOCK_EX):
            path.rename(spare)
        else:
            path.unlink(missing_ok=True)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def take_spare(directory: Path, length: int, name: str) -> int | None:
    """Give a spare of some length a name, and return its descriptor; None without one. It still has older records."""
    for spare in map(directory.joinpath, _NAMES):
        try:
            descriptor = os.open(spare, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            # A reader that was about to map it by its old name may hold it for a moment.
            if not _locked(descriptor, fcntl.LOCK_EX) or not _is_at(descriptor, spare):
                continue
            if os.fstat(descriptor).st_size != length:
                spare.unlink()  # no segment is like it any more
                continue
            spare.rename(directory / name)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            taken, descriptor = descriptor, -1
            return taken
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return None


def drop_spares(directory: Path) -> int:
    """Unlink the spares of a partition, and return their bytes."""
    return sum(map(_drop, map(directory.joinpath, _NAMES)))


def _drop(spare: Path) -> int:
    try:
        descriptor = os.open(spare, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        # One that its writer is taking is none any more.
        if not _locked(descriptor, fcntl.LOCK_EX) or not _is_at(descriptor, spare):
            return 0
        spare.unlink()
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
