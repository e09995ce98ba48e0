"""The bytes of a telescope stream, without any socket: framed images, bare FITS, and whatever else comes along.

A frame is 512 bytes (u64 magic, u32 length of the FITS header, u32 length of the pixels, zeros), the header's cards and
float32 pixels, all little-endian, the pixels not padded. Bare FITS is as in a file: big-endian, padded to 2880 bytes.
Which of the two comes is decided image by image. On anything else the parser scans forward to the next marker.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from trapline.image_ingest.assembly import (
    FRAME_BYTES,
    Assembled,
    BadImageError,
    EndedError,
    Steps,
    announces_header,
    bare,
    framed,
)
from trapline.image_ingest.config import PixelOrder
from trapline.image_ingest.events import BrokenImage, Event, StreamCounters, StreamImage
from trapline.image_ingest.layout import plane_name, planes
from trapline.image_ingest.markers import LONGEST, MAGIC, find_marker, may_begin

_SCRATCH_BYTES = 64 << 10


class StreamParser:
    """Turns received bytes into images.

    Ask for `wanted()`, fill it from its beginning with what comes, and say how many bytes came with `received()`.
    Pixels thus arrive in the array that the image keeps. When the connection ends call `end()`, once.

    Parameters
    ----------
    pixel_order
        Order of framed pixels: ``fits`` (x fastest) or ``column-major`` (y fastest).
    limit_bytes
        Largest size of an image's pixels; more is refused before memory is taken.
    counters
        Where to count; may be those of the connection before.
    """

    def __init__(
        self, *, pixel_order: PixelOrder = "fits", limit_bytes: int = 512 << 20, counters: StreamCounters | None = None
    ) -> None:
        self.counters = counters if counters is not None else StreamCounters()
        self.mid_image = False
        """true when an image has begun and is not complete: only then is silence a fault"""
        self._column_major = pixel_order == "column-major"
        self._limit_bytes = limit_bytes
        self._position = 0
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._events: list[Event] = []
        self._pushed_back: deque[memoryview] = deque()
        self._padding = 0
        self._tail = b""
        self._not_simple_at = -1
        self._doubtful = False
        self._steps: Steps[None] = self._run()
        self._wanted = next(self._steps)

    def wanted(self) -> memoryview:
        """Return the writable buffer, never empty, that the next bytes belong into."""
        return self._wanted

    def received(self, count: int) -> list[Event]:
        """Take note that `count` bytes were written to the beginning of `wanted()`; return what is complete."""
        self.counters.received_bytes += count
        self._advance(count)
        return self._settle()

    def feed(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take in bytes that lie elsewhere, by copying them; return what is complete."""
        self.counters.received_bytes += len(data)
        self._pushed_back.append(memoryview(data))
        return self._settle()

    def end(self) -> list[Event]:
        """Take note that nothing more comes; return the image that was cut short, and what follows its break."""
        events: list[Event] = []
        try:
            while True:
                self._wanted = self._steps.throw(EndedError())
                events += self._settle()
        except StopIteration:
            return events + self._taken()

    def _advance(self, count: int) -> None:
        self._position += count
        self._wanted = self._steps.send(count)

    def _settle(self) -> list[Event]:
        while self._pushed_back:
            chunk = self._pushed_back.popleft()
            count = min(len(self._wanted), len(chunk))
            self._wanted[:count] = chunk[:count]
            if count < len(chunk):
                self._pushed_back.appendleft(chunk[count:])
            self._advance(count)
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _push_back(self, data: bytes) -> None:
        if data:
            self._position -= len(data)
            self._pushed_back.appendleft(memoryview(data))

    # What the bytes mean

    def _run(self) -> Steps[None]:
        in_step = True
        while True:
            filled = yield from self._next_head()
            if not filled:
                return
            head, start = bytes(self._scratch[:filled]), self._position - filled
            # At the end of the stream even the marker may be incomplete.
            self.mid_image = may_begin(head[:LONGEST])
            if self.mid_image:
                in_step = yield from self._image(head, start, doubtful=not in_step)
                self.mid_image = False
            else:
                in_step = False
                yield from self._scan(head)

    def _image(self, head: bytes, start: int, *, doubtful: bool) -> Steps[bool]:
        """Read an image; return whether its end is where the next one should begin."""
        try:
            if head.startswith(MAGIC):
                self._not_simple_at = start + FRAME_BYTES if announces_header(head) else -1
                image = yield from framed(head, self._limit_bytes, column_major=self._column_major)
            else:
                image = yield from bare(head, self._limit_bytes, doubtful=doubtful)
        except BadImageError as bad:
            self._drop(bad, start)
            return bad.kept_from == len(bad.data)
        self._deliver(image, start)
        return True

    def _next_head(self) -> Steps[int]:
        """Fill the scratch with what an image begins with, past the padding of the one before; 0 at the end."""
        filled = 0
        try:
            while filled < FRAME_BYTES:
                filled += yield self._scratch[filled:FRAME_BYTES]
                if self._padding:
                    filled = self._strip_padding(filled)
                self.mid_image = may_begin(bytes(self._scratch[: min(filled, LONGEST)]))
        except EndedError:
            pass
        return filled

    def _strip_padding(self, filled: int) -> int:
        head = bytes(self._scratch[:filled])
        zeros = min(filled - len(head.lstrip(b"\0")), self._padding)
        self._padding = self._padding - zeros if zeros == filled else 0
        self._scratch[: filled - zeros] = head[zeros:]
        return filled - zeros

    def _scan(self, head: bytes) -> Steps[None]:
        """Skip to the next marker."""
        self.counters.resyncs += 1
        # The last image may have been a few bytes short, and hold the beginning of the marker.
        data, delivered = self._tail + head, len(self._tail)
        while True:
            at = find_marker(data, self._not_simple_at - (self._position - len(data)))
            done = at if at >= 0 else max(0, len(data) - LONGEST + 1)
            self.counters.skipped_bytes += max(0, done - delivered)
            data, delivered = data[done:], max(0, delivered - done)
            if at >= 0:
                self._tail = b""
                self._push_back(data)
                return
            try:
                count = yield self._scratch
            except EndedError:
                self.counters.skipped_bytes += len(data) - delivered
                self._tail = b""
                return
            data += bytes(self._scratch[:count])

    def _drop(self, bad: BadImageError, start: int) -> None:
        if bad.truncated:
            self.counters.truncated += 1
        else:
            self.counters.refused += 1
        self.counters.skipped_bytes += bad.kept_from
        self._events.append(BrokenImage(bad.reason, bad.data, start))
        self._tail = b""
        self._push_back(bad.data[bad.kept_from :])

    def _deliver(self, image: Assembled, start: int) -> None:
        self._tail, self._padding = image.tail, image.padding
        for index, header in planes(image.header, image.layout):
            pixels = np.ascontiguousarray(image.pixels[index])
            self._events.append(StreamImage(header, pixels, start, plane_name(index, image.layout)))
            self.counters.images += 1
