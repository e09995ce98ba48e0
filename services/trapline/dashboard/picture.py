"""Pixels for a browser: small PNG files, and smaller images of the same sky."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.floating]
Float = npt.NDArray[np.float64]


def png(pixels: Pixels) -> bytes:
    """Return a grey PNG of an image, first row at the bottom, stretched so that noise and peak are both seen.

    Parameters
    ----------
    pixels
        Shape (ny, nx); NaN is drawn as the darkest.
    """
    grey = np.round(255 * stretched(pixels)).astype(np.uint8)[::-1]
    rows = np.zeros((grey.shape[0], grey.shape[1] + 1), np.uint8)
    rows[:, 1:] = grey
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def stretched(pixels: Pixels) -> Float:
    """Return pixels in [0, 1]: asinh of their distance from the median, in robust sigmas."""
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    if not finite.size:
        return np.zeros(pixels.shape)
    low, middle, high = np.percentile(finite, [16, 50, 84])
    sigma = max((high - low) / 2, 1e-30)
    top = max(float(np.arcsinh((finite.max() - middle) / sigma / 3)), 1e-6)
    scaled = np.arcsinh((np.nan_to_num(pixels, nan=low - 2 * sigma) - middle) / sigma / 3)
    bottom = float(np.arcsinh(-2 / 3))
    unit: Float = np.clip((scaled - bottom) / (top - bottom), 0.0, 1.0)
    return unit


def cut_out(pixels: Pixels, x: float, y: float, half: int = 24) -> Pixels:
    """Return the square of 2 half + 1 pixels about a 0-based position; NaN where the image ends."""
    side = 2 * half + 1
    stamp = np.full((side, side), np.nan, np.float32)
    x0, y0 = round(x) - half, round(y) - half
    ny, nx = pixels.shape
    left, right = max(0, x0), min(nx, x0 + side)
    low, high = max(0, y0), min(ny, y0 + side)
    if left < right and low < high:
        stamp[low - y0 : high - y0, left - x0 : right - x0] = pixels[low:high, left:right]
    return stamp


def shrunk(pixels: Pixels, most: int) -> tuple[Pixels, int]:
    """Return an image of at most so many pixels a side, by means of whole blocks, and the blocks' side."""
    block = max(1, -(-max(pixels.shape) // max(1, most)))
    if block == 1:
        return pixels, 1
    ny, nx = (n // block for n in pixels.shape)
    blocks = pixels[: ny * block, : nx * block].reshape(ny, block, nx, block)
    return blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32), block


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
