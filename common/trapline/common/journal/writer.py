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
    HEADER_BYTES,
    MAGIC_BYTES,
    MAX_FRAMES,
    Buffer,
    pack_record,
    padding,
    segment_files,
    segment_path,
)
from trapline.common.journal.recovery import mark_synced, recover
from trapline.common.journal.spares import take_spare

_MAX_BUFFERS = 1000  # of one pwritev: IOV_MAX is 1024
DEFAULT_SEGMENT_BYTES = 16 << 20
_NO_HEADER = bytes(HEADER_BYTES)


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
        self._file = os.open(tail.segment, os.O_RDWR) if tail.segment else -1
        self._size = os.fstat(self._file).st_size if tail.segment else 0
        self._sealed, self._sealed_end = -1, 0  # the segment before while it is not synced, and the seq behind it

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
        if self._file < 0 or self._offset + size > self._size:
            self._roll(size)
        if self._fresh:
            self._begin()
        # Behind it the file may hold what an earlier segment left there: no header but the next record's own.
        end = _NO_HEADER[: self._size - self._offset - size]
        behind = size - MAGIC_BYTES + len(end)
        _pwritev(self._file, [header[MAGIC_BYTES:], *buffers, end], self._offset + MAGIC_BYTES, behind)
        # The first word of the first header is the commit: readers walk from record to record, and see none of these
        # before it. A whole header could be seen half written, and a record without a size be believed.
        os.pwrite(self._file, header[:MAGIC_BYTES], self._offset)
        self._t_us = t_us
        self._offset += size
        self.next_seq += len(records)
        return first

    def _roll(self, size: int) -> None:
        """Go on in a new segment file that holds at least `size` bytes."""
        if self._sealed >= 0:
            # Recovery looks at two segments: no third before the first is safe.
            self.sync()
        length = max(self._segment_bytes, size + padding(size))
        path = segment_path(self.directory, self.next_seq)
        self._check_limit(length)
        descriptor = take_spare(self.directory, length, path.name)
        if descriptor is None:
            descriptor = self._new_segment(length, path)
        with self._files:
            self._sealed, self._sealed_end = self._file, self.next_seq
            self._file, self._offset, self._size = descriptor, 0, length
        self._fresh = True

    def _begin(self) -> None:
        """Make a new segment one without a record, under a name that outlives a power cut."""
        # Before anything is written: a spare must not be found under its old name after a power cut.
        sync_directory(self.directory)
        os.pwrite(self._file, _NO_HEADER[: self._size], 0)
        self._fresh = False

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
            if (seq == self.synced_seq and self._sealed < 0) or self._file < 0:
                return self.synced_seq
            # Copies: this may run in a thread, and segments be closed meanwhile.
            descriptors = [os.dup(file) for file in (self._sealed, self._file) if file >= 0]
        try:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        with self._files:
            self.synced_seq = max(self.synced_seq, seq)
            if self._sealed >= 0 and self._sealed_end <= seq:
                mark_synced(self.directory, self._sealed_end)
                os.close(self._sealed)
                self._sealed = -1
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
        if self._file >= 0:
            os.close(self._file)
        os.close(self._lock)
        self._lock = self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pwritev(descriptor: int, buffers: list[Buffer], offset: int, size: int) -> None:
    """Write all buffers, of `size` bytes: `os.pwritev` may stop early, and takes a bounded number."""
    if len(buffers) <= _MAX_BUFFERS and os.pwritev(descriptor, buffers, offset) == size:
        return
    for start in range(0, len(buffers), _MAX_BUFFERS):
        part = [memoryview(b).cast("B") for b in buffers[start : start + _MAX_BUFFERS]]
        while part:
            written = os.pwritev(descriptor, part, offset)
            offset += written
            while part and written >= len(part[0]):
                written -= len(part.pop(0))
            if part and written:
                part[0] = part[0][written:]


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
