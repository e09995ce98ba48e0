"""Where an image begins in a stream of bytes, and signs that one was cut short or is read in the wrong byte order."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from trapline.image_ingest.layout import Numbers

MAGIC = struct.pack("<Q", 0x47494A53484F4D4F)
"""first bytes of a frame"""
SIMPLE = b"SIMPLE  ="
"""first bytes of bare FITS, and of the header in a frame"""
END = b"END"
LONGEST = max(len(MAGIC), len(SIMPLE))

# Text is looked for in samples of four bytes, this far apart. A header has at least 2880 bytes of text, which hold more
# than eight samples; that as many of a telescope's numbers in a row look like text happens once in 10^14.
_STRIDE_BYTES = 256
_TAIL_BYTES = 4096


def may_begin(head: bytes) -> bool:
    """Return whether these first bytes, however few but none, are those of an image."""
    return bool(head) and any(head.startswith(marker[: len(head)]) for marker in (MAGIC, SIMPLE))


def find_marker(data: bytes, not_simple_at: int = -1) -> int:
    """Return where the first marker begins, -1 when there is none; a SIMPLE at `not_simple_at` does not count."""
    magic, simple = data.find(MAGIC), data.find(SIMPLE)
    if simple == not_simple_at >= 0:
        simple = data.find(SIMPLE, simple + 1)
    return min(magic, simple) if magic >= 0 and simple >= 0 else max(magic, simple)


def end_of_cards(text: bytes) -> int:
    """Return where the card END begins in the cards of a header, -1 when there is none."""
    at = text.find(END)
    while at >= 0 and (at % 80 or text[at : at + 80].rstrip() != END):
        at = text.find(END, at + 1)
    return at


def marker_in_header(data: bytes, text_at: int) -> int:
    """Return where another image begins in what should be one header, -1 when none does.

    Parameters
    ----------
    data
        From the first byte of the image to the last of its cards.
    text_at
        Where the cards begin. The name SIMPLE may stand in a comment, but not where another card begins nor after END.
    """
    found = [data.find(MAGIC, 1), data.find(SIMPLE, 1, text_at + len(SIMPLE) - 1)]
    found += [at for at in range(text_at + 80, len(data), 80) if data.startswith(SIMPLE, at)][:1]
    end = end_of_cards(data[text_at:])
    if end >= 0:
        after = text_at + end + 80
        found.append(data.find(SIMPLE, after))
        # Of a marker that begins in the padding perhaps only the first bytes are in it.
        rest = data[after:].lstrip(b" \0")
        found.append(len(data) - len(rest) if may_begin(rest[:LONGEST]) else -1)
    return min((at for at in found if at >= 0), default=-1)


def marker_in_pixels(view: memoryview) -> int:
    """Return where in the bytes of an image's pixels another image begins, -1 when none does.

    It does when the image was cut short and the next one followed at once. What is searched is only what looks like the
    text of a header, because searching all takes ten times as long; the end, where a header may be incomplete, always.
    """
    if _holds_text(np.frombuffer(view, dtype=np.uint8)):
        return find_marker(bytes(view))
    start = max(0, len(view) - _TAIL_BYTES)
    at = find_marker(bytes(view[start:]))
    return start + at if at >= 0 else -1


def _holds_text(data: npt.NDArray[np.uint8]) -> bool:
    """Return whether eight samples in a row are printable."""
    count = len(data) // _STRIDE_BYTES
    samples = np.ascontiguousarray(data[: count * _STRIDE_BYTES].view(np.uint32)[:: _STRIDE_BYTES // 4]).view(np.uint8)
    # Four bytes at a time: each is printable when what it is above a blank is below 0x5F, and then a 1.
    run = (samples - np.uint8(0x20) < 0x5F).view(np.uint32) == 0x01010101
    for step in (1, 2, 4):
        run = run[step:] & run[:-step]
    return bool(run.any())


def is_implausible(numbers: Numbers) -> bool:
    """Return whether these numbers look like float32 of the other byte order.

    Read the wrong way round, the exponent is made of mantissa bits and lies anywhere in 10^+-38; telescopes send what
    lies within 10^+-15, zeros, NaN and infinities. Integers always look plausible.
    """
    if numbers.dtype.kind != "f":
        return False
    flat = numbers.reshape(-1)
    with np.errstate(invalid="ignore"):
        sample = np.abs(flat[:: max(1, flat.size // 4096)].astype(np.float64))
    plausible = ~np.isfinite(sample) | (sample == 0) | ((sample > 1e-15) & (sample < 1e15))
    return bool(plausible.mean() < 0.9)
