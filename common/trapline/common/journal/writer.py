"""The one writer of a partition: append, and be done."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from trapline.common.journal.epochs import load_epochs, save_epochs, sync_directory
from trapline.common.journal.layout import (
    MAX_FRAMES,
    Buffer,
    pack_record,
    padding,
    segment_files,
    segment_path,
)
from trapline.common.journal.open_segment import OpenSegment
from trapline.common.journal.recovery import mark_synced, recover
from trapline.common.journal.spares import take_spare

DEFAULT_SEGMENT_BYTES = 16 << 20


class JournalError(RuntimeError):
    """A partition that cannot be opened or written. The text names its directory and what would be right."""


def now_us() -> int:
    """Return the time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


class JournalWriter:
    """Appends records to the segment files of one partition.

    A record that `append` has returned is seen by every reader and outlives `kill -9`; after `sync` it outlives a power
    cut. A record in flight when the process dies is invisible for ever.

    Parameters
    ----------
    directory
        Made when missing. A second writer on the same directory is refused.
    segment_bytes
        Size of a segment file. A larger record gets a segment of its own.
    clock
        Time of an append, in microseconds.
    limit_bytes, min_free_bytes
        A new segment is refused, as by a full disk, when the segments would be more than this, or the disk would have
        less left; 0 for no such limit.

    Raises
    ------
    JournalError
        When another process writes this partition.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        clock: Callable[[], int] = now_us,
        limit_bytes: int = 0,
        min_free_bytes: int = 0,
    ) -> None:
        self.directory = directory
        self._segment_bytes = segment_bytes
        self._clock = clock
        self._limit_bytes, self._min_free_bytes = limit_bytes, min_free_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(directory)
        self._files = threading.Lock()
        try:
            self._open()
        except BaseException:
            # A disk that is full now may not be the next time.
            os.close(self._lock)
            raise

    def _open(self) -> None:
        directory = self.directory
        tail = recover(directory)
        self.torn = tail.torn
        self.next_seq = self.synced_seq = tail.next_seq
        self._epochs = load_epochs(directory)
        self._epochs.begin(self.next_seq)
        save_epochs(directory, self._epochs)
        self._offset, self._fresh = tail.offset, False
        self._t_us = tail.t_us
        self._segment = OpenSegment(os.open(tail.segment, os.O_RDWR)) if tail.segment else None
        self._sealed: OpenSegment | None = None  # the segment before while it is not synced
        self._sealed_end = 0  # the seq behind it

    @property
    def epoch(self) -> int:
        """Epoch of the records that this writer appends."""
        return self._epochs.current

    def append(self, frames: Sequence[Buffer]) -> int:
        """Append one record and return its seq.

        Raises
        ------
        OSError
            When the disk is full (errno ENOSPC): nothing was appended, and it can be tried again.
        """
        return self.append_many([frames])

    def append_many(self, records: Sequence[Sequence[Buffer]]) -> int:
        """Append records that become visible together, and return the seq of the first.

        They share a segment, so their sum is what a segment must hold.
        """
        first = self.next_seq
        if not records:
            return first
        if max(map(len, records)) > MAX_FRAMES:
            raise JournalError(f"a record has at most {MAX_FRAMES} frames; write {self.directory} with fewer")
        # Clocks jump; the time index needs times that never do.
        t_us = max(self._clock(), self._t_us)
        header, buffers, size = pack_record(self.epoch, first, t_us, records[0])
        for seq, frames in enumerate(records[1:], first + 1):
            later, body, more = pack_record(self.epoch, seq, t_us, frames)
            buffers += (later, *body)
            size += more
        segment = self._segment
        if segment is None or self._offset + size > segment.size:
            segment = self._roll(size)
        if self._fresh:
            # Before anything is written: a spare must not be found under its old name after a power cut.
            sync_directory(self.directory)
            segment.clear()
            self._fresh = False
        segment.put(self._offset, header, buffers, size)
        self._t_us = t_us
        self._offset += size
        self.next_seq += len(records)
        return first

    def _roll(self, size: int) -> OpenSegment:
        """Go on in a new segment file that holds at least `size` bytes."""
        if self._sealed:
            # Recovery looks at two segments: no third before the first is safe.
            self.sync()
        length = max(self._segment_bytes, size + padding(size))
        path = segment_path(self.directory, self.next_seq)
        self._check_limit(length)
        descriptor = take_spare(self.directory, length, path.name)
        segment = OpenSegment(self._new_segment(length, path) if descriptor is None else descriptor)
        with self._files:
            self._sealed, self._sealed_end = self._segment, self.next_seq
            self._segment, self._offset = segment, 0
        self._fresh = True
        return segment

    def _new_segment(self, length: int, path: Path) -> int:
        self._check_disk(length)
        new = self.directory / "segment.new"
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            # The disk may be full here, and nowhere else: never in the middle of a record.
            os.posix_fallocate(descriptor, 0, length)
            new.rename(path)
        except OSError:
            os.close(descriptor)
            new.unlink(missing_ok=True)
            raise
        return descriptor

    def _check_limit(self, length: int) -> None:
        held = sum(map(_size_of, (p for _, p in segment_files(self.directory)))) if self._limit_bytes else 0
        if self._limit_bytes and held + length > self._limit_bytes:
            text = f"its segments hold {held} of at most {self._limit_bytes} bytes, and are still needed"
            raise OSError(errno.ENOSPC, text, str(self.directory))

    def _check_disk(self, length: int) -> None:
        free = shutil.disk_usage(self.directory).free if self._min_free_bytes else 0
        if self._min_free_bytes and free - length < self._min_free_bytes:
            raise OSError(errno.ENOSPC, f"the disk has {free} bytes left", str(self.directory))

    def sync(self) -> int:
        """Make what was appended outlive a power cut, and return the seq before which that holds."""
        with self._files:
            seq = self.next_seq
            if (seq == self.synced_seq and not self._sealed) or not self._segment:
                return self.synced_seq
            # Copies: this may run in a thread, and segments be closed meanwhile.
            descriptors = [os.dup(segment.descriptor) for segment in (self._sealed, self._segment) if segment]
        try:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with self._files:
            self.synced_seq = max(self.synced_seq, seq)
            if self._sealed and self._sealed_end <= seq:
                mark_synced(self.directory, self._sealed_end)
                self._sealed.close()
                self._sealed = None
        return self.synced_seq

    def close(self) -> None:
        """Sync and leave, cleanly: the next writer goes on in the same epoch."""
        if self._lock < 0:
            return
        self.sync()
        self._epochs.open = False
        # On a full disk it stays open: the next writer begins an epoch, and nothing is lost.
        with contextlib.suppress(OSError):
            save_epochs(self.directory, self._epochs)
        if self._segment:
            self._segment.close()
        self._segment = None
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # retention took it meanwhile


def _lock(directory: Path) -> int:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalError(
            f"{directory} has a writer already: a partition has one; stop it, or give this replica another name"
        ) from None
    return descriptor
