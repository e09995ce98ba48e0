"""Background and noise of an image, on a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sep

from trapline.common.region import inside
from trapline.schemas.columns import Array
from trapline.schemas.image import Image

Pixels = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Flattened:
    """An image without its background, and its noise; all arrays (ny, nx).

    `flat` is 0 and `rms` infinite where nothing can be measured; `unusable` is None when every pixel is fine.
    """

    flat: Pixels
    rms: Pixels
    unusable: Bool | None


def flatten(pixels: Array, mask: Array | None, mesh_px: int) -> Flattened:
    """Return the image without its background, with its noise (clipped mode and rms per mesh cell, splines between).

    Parameters
    ----------
    pixels
        ``im[y, x]``, any numeric type and byte order; not changed. Pixels that are not finite are not used.
    mask
        Non-zero where a pixel must not be used, same shape.
    mesh_px
        Side of a mesh cell.

    Raises
    ------
    ValueError
        When the pixels are not an image, or the mask is not of its shape.
    """
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"the pixels have the shape {pixels.shape}: an image (ny, nx) is wanted")
    if mask is not None and mask.shape != pixels.shape:
        raise ValueError(f"the mask has the shape {mask.shape}, the pixels have {pixels.shape}")
    with np.errstate(over="ignore"):
        flat = np.array(pixels, dtype=np.float32, order="C")
    unusable = _unusable(flat, mask)
    if unusable is not None:
        flat[unusable] = 0.0
    background = sep.Background(flat, mask=unusable, bw=mesh_px, bh=mesh_px)
    background.subfrom(flat)
    return _guarded(flat, background.rms(dtype=np.float32), unusable)


def noise_range(noise: Flattened, image: Image) -> tuple[float | None, float | None]:
    """Return the smallest and largest noise in the region of the image; None where nothing can be measured."""
    ny, nx = noise.rms.shape
    margin = image.margin_px
    rows, columns = slice(margin, max(ny - margin, margin)), slice(margin, max(nx - margin, margin))
    rms = noise.rms[rows, columns]
    if image.radius_deg is not None:
        y, x = np.ogrid[rows, columns]
        rms = rms[inside(image, x, y)]
    if rms.size and not np.isfinite(rms.max()):
        rms = rms[np.isfinite(rms)]
    return (float(rms.min()), float(rms.max())) if rms.size else (None, None)


def _unusable(flat: Pixels, mask: Array | None) -> Bool | None:
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is the fastest look at every pixel: it is finite in nearly every image.
        finite = bool(np.isfinite(flat.sum()))
    if finite and mask is None:
        return None
    unusable = ~np.isfinite(flat)
    if mask is not None:
        unusable |= mask != 0
    return unusable if unusable.any() else None


def _guarded(flat: Pixels, rms: Pixels, unusable: Bool | None) -> Flattened:
    """Make what has no noise unusable: masked pixels, constant areas, and where a sum of squares overflowed."""
    if unusable is None and rms.min() > 0 and np.isfinite(rms.max()):
        return Flattened(flat, rms, None)
    nothing = ~(np.isfinite(rms) & (rms > 0) & np.isfinite(flat))
    if unusable is not None:
        nothing |= unusable
    flat[nothing] = 0.0
    rms[nothing] = np.inf
    return Flattened(flat, rms, nothing)
