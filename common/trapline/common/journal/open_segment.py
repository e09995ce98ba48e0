"""The segment file that a writer appends to: how bytes get there so that no reader ever sees half a record.

A call to the kernel costs several times what copying a small record does, so small records are written through a map of
the file. Their blocks were allocated when the segment was made: a full disk shows there, and not in the map (see
decision 15). Large ones go by a call, which need not look at the pages that it replaces.
"""

from __future__ import annotations

import mmap
import os
import threading

from trapline.common.journal.layout import HEADER_BYTES, JOINED_BYTES, MAGIC_BYTES, Buffer

_MAX_BUFFERS = 1000  # of one pwritev: IOV_MAX is 1024
_NO_HEADER = bytes(HEADER_BYTES)


class OpenSegment:
    """A segment file of a writer. It owns the descriptor.

    Attributes
    ----------
    size
        Of the file, in bytes.
    """

    __slots__ = ("_fence", "_map", "_view", "descriptor", "size")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._map: mmap.mmap | None = None
        self._view = memoryview(b"")
        self._fence = threading.Lock()
        self._fence.acquire()

    def clear(self) -> None:
        """Make it a segment without a record, whatever the file held before."""
        os.pwrite(self.descriptor, _NO_HEADER[: self.size], 0)

    def put(self, offset: int, header: bytes, buffers: list[Buffer], size: int) -> None:
        """Write records, the first of which has this header, and `size` bytes with it: they become visible together.

        Raises
        ------
        OSError
            When they could not be written. Nothing is visible.
        """
        # Behind it the file may hold what an earlier segment left there: no header but the next record's own.
        end = _NO_HEADER[: self.size - offset - size]
        # The first word of the first header is the commit: readers walk from record to record, and see none of these
        # before it. A whole header could be seen half written, and a record without a size be believed.
        if size <= JOINED_BYTES:
            self._put_in_map(offset, header, buffers, end)
        else:
            behind = size - MAGIC_BYTES + len(end)
            _pwritev(self.descriptor, [header[MAGIC_BYTES:], *buffers, end], offset + MAGIC_BYTES, behind)
            os.pwrite(self.descriptor, header[:MAGIC_BYTES], offset)

    def _put_in_map(self, offset: int, header: bytes, buffers: list[Buffer], end: bytes) -> None:
        if self._map is None:
            self._map = mmap.mmap(self.descriptor, self.size)
            self._view = memoryview(self._map)
        view, at = self._view, offset + HEADER_BYTES
        view[offset + MAGIC_BYTES : at] = header[MAGIC_BYTES:]
        for part in (*buffers, end):
            view[at : at + len(part)] = part
            at += len(part)
        # Release, then acquire: no processor shows the word to others before what it stands for.
        self._fence.release()
        self._fence.acquire()
        view[offset : offset + MAGIC_BYTES] = header[:MAGIC_BYTES]

    def close(self) -> None:
        """Let go of the file."""
        self._view.release()
        if self._map is not None:
            self._map.close()
        os.close(self.descriptor)


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
