"""One image of a stream, step by step: each step asks for a buffer to be filled, and none takes more than announced.

Steps are generators: they yield a writable buffer and are sent how many bytes came into its beginning. `EndedError`
thrown into one says that no more come.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from astropy.io.fits import Header as FitsHeader

from trapline.image_ingest.cards import one_line, parse_cards, quiet
from trapline.image_ingest.layout import (
    DTYPES,
    Layout,
    LayoutError,
    Numbers,
    Pixels,
    physical,
    read_bitpix,
    read_layout,
)
from trapline.image_ingest.markers import (
    LONGEST,
    MAGIC,
    SIMPLE,
    end_of_cards,
    find_marker,
    is_implausible,
    marker_in_header,
    marker_in_pixels,
)

BLOCK_BYTES = 2880
FRAME_BYTES = 512
MAX_HEADER_BYTES = 512 << 10
MAX_PLANES = 4096

_PREFIX = struct.Struct("<8sII496x")

T = TypeVar("T")
Steps = Generator[memoryview, int, T]


class EndedError(Exception):
    """No more bytes come."""


class BadImageError(Exception):
    """The image that is being read cannot be had.

    Attributes
    ----------
    data
        What there was of it, from its first byte.
    kept_from
        From where on in `data` the next image may begin.
    truncated
        True when its bytes ended too early, false when they are not what they should be.
    """

    def __init__(self, reason: str, data: bytes, kept_from: int, *, truncated: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.data, self.kept_from, self.truncated = reason, data, kept_from, truncated


@dataclass(frozen=True, slots=True)
class Assembled:
    """A complete image."""

    header: FitsHeader
    layout: Layout
    pixels: Pixels
    """shape of the layout: planes, ny, nx"""
    tail: bytes
    """its last bytes: if it was a little short, they are the first of the next image"""
    padding: int = 0
    """zeros that should follow"""


def announces_header(head: bytes) -> bool:
    """Return whether the beginning of a frame is followed by a FITS header, by the size that it announces for it."""
    return len(head) == FRAME_BYTES and 80 <= _PREFIX.unpack(head)[1] <= MAX_HEADER_BYTES


def framed(head: bytes, limit_bytes: int, *, column_major: bool) -> Steps[Assembled]:
    """Read a frame that begins with `head` (512 bytes unless the stream ended)."""
    _check_head(head, MAGIC)
    _, text_bytes, pixel_bytes = _PREFIX.unpack(head)
    if not announces_header(head):
        reason = f"a frame announces a FITS header of {text_bytes} bytes; expected 80 to {MAX_HEADER_BYTES}"
        raise BadImageError(reason, head, len(MAGIC))
    _check_size(pixel_bytes, limit_bytes, head, MAGIC)
    text = bytearray(text_bytes)
    yield from _fill(memoryview(text), head, MAGIC)
    before = head + bytes(text)
    header, layout = _announced(bytes(text), before, MAGIC)
    if 4 * layout.pixels != pixel_bytes:
        takes = f"the shape {layout.shape} of its FITS header takes {4 * layout.pixels}"
        raise BadImageError(f"a frame announces {pixel_bytes} bytes of pixels, {takes}", before, len(MAGIC))
    ny, nx = layout.shape[-2:]
    pixels = np.empty((*layout.shape[:-2], *((nx, ny) if column_major else (ny, nx))), dtype="<f4")
    view = pixels.reshape(-1).view(np.uint8).data
    yield from _fill(view, before, MAGIC)
    _check_whole(before, view)
    return Assembled(header, layout, pixels.swapaxes(-1, -2) if column_major else pixels, _tail(view))


def bare(head: bytes, limit_bytes: int, *, doubtful: bool) -> Steps[Assembled]:
    """Read bare FITS that begins with `head`; `doubtful` when scanning found it: it may be the inside of a frame."""
    _check_head(head, SIMPLE)
    text = yield from _blocks(head)
    header, layout = _announced(text, text, SIMPLE)
    try:
        with quiet():
            dtype = np.dtype(DTYPES[read_bitpix(header)])
    except LayoutError as error:
        raise BadImageError(str(error), text, len(SIMPLE)) from None
    _check_size(layout.pixels * max(4, dtype.itemsize), limit_bytes, text, SIMPLE)
    numbers: Numbers = np.empty(layout.shape, dtype=dtype)
    view = numbers.reshape(-1).view(np.uint8).data
    yield from _fill(view, text, SIMPLE)
    tail = _tail(view)
    _check_whole(text, view)
    if doubtful and is_implausible(numbers):
        data = text + bytes(view)
        raise BadImageError("pixels in the wrong byte order for bare FITS: a frame without its magic?", data, len(data))
    if dtype == np.dtype(">f4"):
        numbers = numbers.byteswap(inplace=True).view("<f4")
    with quiet():
        pixels = physical(numbers, header)
    return Assembled(header, layout, pixels, tail, -len(view) % BLOCK_BYTES)


def _blocks(head: bytes) -> Steps[bytes]:
    text = head
    while True:
        block = bytearray(BLOCK_BYTES - len(text) % BLOCK_BYTES)
        yield from _fill(memoryview(block), text, SIMPLE)
        text += bytes(block)
        if not text[-BLOCK_BYTES:].isascii():
            raise BadImageError("bytes that are no text in a FITS header", text, len(SIMPLE))
        if end_of_cards(text) >= 0:
            return text
        if len(text) >= MAX_HEADER_BYTES:
            raise BadImageError(f"a FITS header without END in {MAX_HEADER_BYTES} bytes", text, len(SIMPLE))


def _fill(buffer: memoryview, before: bytes, marker: bytes) -> Steps[None]:
    filled = 0
    try:
        while filled < len(buffer):
            filled += yield buffer[filled:]
    except EndedError:
        data = before + bytes(buffer[:filled])
        raise BadImageError(_ended(data), data, len(marker), truncated=True) from None


def _announced(text: bytes, data: bytes, marker: bytes) -> tuple[FitsHeader, Layout]:
    cut = marker_in_header(data, len(data) - len(text))
    if cut >= 0:
        raise BadImageError(f"another image begins after {cut} bytes of a header", data, cut, truncated=True)
    if end_of_cards(text) < 0:
        raise BadImageError("a FITS header without END", data, len(marker))
    try:
        with quiet():
            header = parse_cards(text)
            layout = read_layout(header)
    except LayoutError as error:
        raise BadImageError(f"a FITS header that announces no image: {error}", data, len(marker)) from None
    except Exception as error:  # noqa: BLE001  whatever astropy's parser makes of hostile cards
        raise BadImageError(f"an unreadable FITS header: {one_line(error)}", data, len(marker)) from None
    if layout.pixels > MAX_PLANES * layout.plane_pixels:
        raise BadImageError(f"the shape {layout.shape} has more than {MAX_PLANES} planes", data, len(marker))
    return header, layout


def _check_head(head: bytes, marker: bytes) -> None:
    if len(head) < FRAME_BYTES:
        raise BadImageError(_ended(head), head, min(len(marker), len(head)), truncated=True)


def _check_size(announced: int, limit_bytes: int, data: bytes, marker: bytes) -> None:
    if not 0 < announced <= limit_bytes:
        reason = f"an image announces {announced} bytes of pixels; allowed are 1 to {limit_bytes} (max_image_bytes)"
        raise BadImageError(reason, data, len(marker))


def _check_whole(before: bytes, view: memoryview) -> None:
    """Refuse pixels in which another image begins, be it with its first bytes at the end of the header."""
    overlap = LONGEST - 1
    border = find_marker(before[-overlap:] + bytes(view[:overlap]))
    at = border - overlap if border >= 0 else marker_in_pixels(view)
    if border >= 0 or at >= 0:
        reason = f"another image begins after {max(0, at)} of {len(view)} bytes of pixels"
        raise BadImageError(reason, before + bytes(view), len(before) + at, truncated=True)


def _tail(view: memoryview) -> bytes:
    return bytes(view[-LONGEST + 1 :])


def _ended(data: bytes) -> str:
    return f"the stream ended after {len(data)} bytes of an image"
