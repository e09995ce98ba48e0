"""An image without its background, and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.common.region import inside
from trapline.schemas.columns import Array
from trapline.schemas.image import Image
from trapline.source_extractor.mesh import NoiseMesh, noise_mesh

Pixels = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

_RANGE_STRIDE = 4  # the noise changes over a cell of the mesh: every fourth pixel shows its extremes
_FEWEST_SAMPLES = 12  # along a side of a cell


@dataclass(frozen=True, slots=True)
class Flattened:
    """An image without its background, and its noise; all arrays (ny, nx).

    `flat` is 0 and `rms` infinite where nothing can be measured; `unusable` is None when every pixel is fine. `mesh` is
    what both were made of.
    """

    flat: Pixels
    rms: Pixels
    unusable: Bool | None
    mesh: NoiseMesh | None = None


def flatten(
    pixels: Array,
    mask: Array | None,
    mesh_px: int,
    smooth_px: float = 0.0,
    given_rms: Array | None = None,
    wanted: slice | None = None,
    known: NoiseMesh | None = None,
) -> Flattened:
    """Return the image without its background, with its noise (clipped mode and rms of cells, linear between).

    Parameters
    ----------
    pixels
        ``im[y, x]``, any numeric type and byte order; not changed. Pixels that are not finite are not used.
    mask
        Non-zero where a pixel must not be used, same shape.
    mesh_px
        Side of a mesh cell.
    smooth_px
        Sigma of the beam, where that makes the noise: pixels nearer than 1.2 times this say the same. 0 where each
        pixel has noise of its own.
    given_rms
        The noise, same shape, if it is known: then only the background is taken from the mesh. Pixels without noise, or
        with an infinite one, are not used.
    wanted
        Rows that will be looked at, at least one; the others may hold anything. What is in these does not depend on it.
    known
        The mesh of this image, from when it was flattened before with the same mask and sizes.

    Raises
    ------
    ValueError
        When the pixels are not an image, or the mask or the noise are not of its shape.
    """
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"the pixels have the shape {pixels.shape}: an image (ny, nx) is wanted")
    for name, other in (("mask", mask), ("noise map", given_rms)):
        if other is not None and other.shape != pixels.shape:
            raise ValueError(f"the {name} has the shape {other.shape}, the pixels have {pixels.shape}")
    shape = (pixels.shape[0], pixels.shape[1])
    stride = max(1, min(int(1.2 * smooth_px), mesh_px // _FEWEST_SAMPLES))
    with np.errstate(over="ignore", invalid="ignore"):
        mesh = known or noise_mesh(_sample(pixels, mask, given_rms, stride), shape, mesh_px, stride)
        if mesh is None:
            return Flattened(np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32), np.ones(shape, bool))
        flat, rms = np.empty(shape, np.float32), np.empty(shape, np.float32)
        rows = mesh.spread(flat, rms, pixels, wanted or slice(0, shape[0]))
        if given_rms is not None:
            rms[:] = given_rms
        # A sum is the fastest look at every pixel: it is finite in nearly every image.
        finite = bool(np.isfinite(flat[rows].sum()))
    if finite and mask is None and given_rms is None and mesh.rms.min() > 0:
        return Flattened(flat, rms, None, mesh)
    if wanted is not None:
        return flatten(pixels, mask, mesh_px, smooth_px, given_rms, known=mesh)
    return _guarded(flat, rms, mask, mesh)


def noise_range(noise: Flattened, image: Image) -> tuple[float | None, float | None]:
    """Return the smallest and largest noise in the region of the image; None where nothing can be measured."""
    ny, nx = noise.rms.shape
    margin, step = image.margin_px, _RANGE_STRIDE if min(ny, nx) > 100 * _RANGE_STRIDE else 1
    rows, columns = slice(margin, max(ny - margin, margin), step), slice(margin, max(nx - margin, margin), step)
    rms = noise.rms[rows, columns]
    if image.radius_deg is not None:
        y, x = np.ogrid[rows, columns]
        rms = rms[inside(image, x, y)]
    if rms.size and not np.isfinite(rms.max()):
        rms = rms[np.isfinite(rms)]
    return (float(rms.min()), float(rms.max())) if rms.size else (None, None)


def noise_of(weight: Array) -> Pixels:
    """Return the noise that a map of inverse variances tells; infinite where the weight is 0, or none."""
    inverse = np.asarray(weight, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(inverse > 0, 1 / np.sqrt(inverse), np.inf).astype(np.float32)


def _sample(pixels: Array, mask: Array | None, rms: Array | None, stride: int) -> Pixels:
    """Return every `stride`-th pixel, NaN where it is unusable."""
    sample = np.array(pixels[::stride, ::stride], np.float32)
    bad = ~np.isfinite(sample)
    if mask is not None:
        bad |= mask[::stride, ::stride] != 0
    if rms is not None:
        known = np.asarray(rms[::stride, ::stride], np.float64)
        bad |= ~(np.isfinite(known) & (known > 0))
    sample[bad] = np.nan
    return sample


def _guarded(flat: Pixels, rms: Pixels, mask: Array | None, mesh: NoiseMesh) -> Flattened:
    """Make unusable what is masked, what is no number, and what has no noise: constant areas."""
    nothing = ~(np.isfinite(rms) & (rms > 0) & np.isfinite(flat))
    if mask is not None:
        nothing |= mask != 0
    flat[nothing] = 0.0
    rms[nothing] = np.inf
    return Flattened(flat, rms, nothing if nothing.any() else None, mesh)
