"""Images as bytes on a stream: the framing of AARTFAAC's imager, or bare FITS."""

from __future__ import annotations

import struct

import numpy as np
from astropy.io.fits import Header as FitsHeader

from trapline.simulator.beam import Pixels
from trapline.simulator.config import SimulatorConfig

MAGIC = 0x47494A53484F4D4F
FITS_BLOCK = 2880

_PREFIX = struct.Struct("<QII496x")

Parts = list[bytes | memoryview]
"""What is sent, in order. Pixels are not copied into one buffer with their header."""


def encode(config: SimulatorConfig, header: FitsHeader, pixels: Pixels) -> Parts:
    """Return one image (ny, nx) in the framing and pixel order of the configuration."""
    if config.framing == "fits":
        return bare_fits(header, pixels)
    return framed(header, pixels, column_major=config.pixel_order == "column-major")


def framed(header: FitsHeader, pixels: Pixels, *, column_major: bool = False) -> Parts:
    """Return an image as AARTFAAC frames it.

    512 bytes (u64 magic, u32 length of the FITS header, u32 length of the pixels, zeros; little-endian), the FITS
    header padded to 2880 bytes, then the pixels as little-endian float32 without padding: x fastest, or y fastest.
    """
    text = header.tostring().encode("ascii")
    ordered = np.ascontiguousarray(pixels.T if column_major else pixels, dtype="<f4")
    return [_PREFIX.pack(MAGIC, len(text), ordered.nbytes) + text, ordered.reshape(-1).view(np.uint8).data]


def bare_fits(header: FitsHeader, pixels: Pixels) -> Parts:
    """Return an image as a FITS file would hold it: big-endian, padded to whole blocks."""
    data = np.ascontiguousarray(pixels, dtype=">f4")
    padding = bytes(-data.nbytes % FITS_BLOCK)
    return [header.tostring().encode("ascii"), data.reshape(-1).view(np.uint8).data, padding]


def size_of(parts: Parts) -> int:
    """Return the number of bytes of an encoded image."""
    return sum(len(part) for part in parts)
