"""The restoring beam on the pixel grid: its shape, and point sources as it shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.simulator.config import SimulatorConfig

Float = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]

FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))

_STAMP_SIGMA = 5.5
"""Stamps end here, where a source of 400 times the noise is below 2e-4 of the noise."""
_BATCH_PIXELS = 1_000_000
"""Stamps are made in batches of about this many pixels, so that memory does not grow with their number."""


@dataclass(frozen=True, slots=True)
class PixelBeam:
    """An elliptical Gaussian in pixels, given by the second moments of its axes (x, y)."""

    xx_px2: float
    xy_px2: float
    yy_px2: float

    @property
    def half_width_px(self) -> int:
        """Half the side of a stamp that holds the beam to well below the noise."""
        return math.ceil(_STAMP_SIGMA * math.sqrt(max(self.xx_px2, self.yy_px2)))

    def inverse(self) -> tuple[float, float, float]:
        """Return (xx, xy, yy) of the inverse of the matrix of moments."""
        determinant = self.xx_px2 * self.yy_px2 - self.xy_px2**2
        return self.yy_px2 / determinant, -self.xy_px2 / determinant, self.xx_px2 / determinant


def pixel_beam(config: SimulatorConfig) -> PixelBeam:
    """Return the beam in pixels. North is up and east is left, as in the images' headers."""
    major, minor = (w / config.pixel_deg / FWHM_PER_SIGMA for w in (config.beam_major_deg, config.beam_minor_deg))
    pa = math.radians(config.beam_pa_deg)
    along = (-math.sin(pa), math.cos(pa))
    across = (math.cos(pa), math.sin(pa))
    return PixelBeam(
        xx_px2=(major * along[0]) ** 2 + (minor * across[0]) ** 2,
        xy_px2=major**2 * along[0] * along[1] + minor**2 * across[0] * across[1],
        yy_px2=(major * along[1]) ** 2 + (minor * across[1]) ** 2,
    )


def add_point_sources(image: Pixels, x: Float, y: Float, peak: Float, beam: PixelBeam) -> None:
    """Add point sources to an image in place.

    Parameters
    ----------
    image
        (ny, nx), contiguous.
    x, y
        (n,) positions in 0-based pixels, at any fraction of one; parts outside the image are left out.
    peak
        (n,) peak flux densities in the image's unit.
    beam
        The shape that a point source has.
    """
    if not image.flags.c_contiguous:
        raise ValueError("the image must be contiguous in C order: sources are added in place")
    half = beam.half_width_px
    ny, nx = image.shape
    near = (x > -half) & (x < nx + half) & (y > -half) & (y < ny + half)
    x, y, peak = x[near], y[near], peak[near]
    batch = max(1, _BATCH_PIXELS // (2 * half + 1) ** 2)
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        _add_batch(image, x[part], y[part], peak[part], beam)


def _add_batch(image: Pixels, x: Float, y: Float, peak: Float, beam: PixelBeam) -> None:
    ny, nx = image.shape
    steps = np.arange(-beam.half_width_px, beam.half_width_px + 1)
    columns = np.rint(x).astype(np.int64)[:, None, None] + steps[None, None, :]
    rows = np.rint(y).astype(np.int64)[:, None, None] + steps[None, :, None]
    dx = (columns - x[:, None, None]).astype(np.float32)
    dy = (rows - y[:, None, None]).astype(np.float32)
    xx, xy, yy = (np.float32(v) for v in beam.inverse())
    stamps = np.exp(np.float32(-0.5) * (xx * dx * dx + yy * dy * dy + 2 * xy * dx * dy))
    stamps *= peak.astype(np.float32)[:, None, None]
    inside = (columns >= 0) & (columns < nx) & (rows >= 0) & (rows < ny)
    flat = np.where(inside, rows * nx + columns, 0)
    stamps[~inside] = 0.0
    # Unlike `+=` with an index, this adds where two sources overlap.
    np.add.at(image.reshape(-1), flat.reshape(-1), stamps.reshape(-1))
