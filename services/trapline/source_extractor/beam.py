"""The restoring beam on the pixel grid: its window, its area, and the noise that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trapline.common.wcs import SkyWcs
from trapline.schemas.image import Beam

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))
HALF_POWER = float(np.sqrt(2 * np.log(2)))
"""Radius of the half-power ellipse, in sigma."""
# Larger beams are sampled with a stride: nothing is lost, the pixels of a beam are not independent.
_MOST_WINDOW_PX = 400


@dataclass(frozen=True, slots=True)
class PixelBeam:
    """An elliptical Gaussian on the pixel grid.

    `to_sigma` (2, 2) turns a pixel offset (x, y) into units in which the beam is ``exp(-(u^2 + v^2) / 2)``.
    """

    to_sigma: Float

    @property
    def to_pixel(self) -> Float:
        """Inverse of `to_sigma`."""
        return np.asarray(np.linalg.inv(self.to_sigma), np.float64)

    @property
    def area_px(self) -> float:
        """Integral of a beam of height 1, in pixels."""
        return float(2 * np.pi / abs(np.linalg.det(self.to_sigma)))

    @property
    def covariance_px(self) -> Float:
        """Second moments, (2, 2) px^2."""
        return self.to_pixel @ self.to_pixel.T

    @property
    def smallest_sigma_px(self) -> float:
        """Sigma along the minor axis."""
        return float(np.linalg.svd(self.to_pixel, compute_uv=False)[-1])

    @property
    def half_power_px(self) -> Float:
        """How far the half-power ellipse reaches along (x, y)."""
        return np.asarray(HALF_POWER * np.sqrt(np.diag(self.covariance_px)))

    def scaled(self, factor: float) -> PixelBeam:
        """Return a beam of the same form, so many times as large."""
        return PixelBeam(self.to_sigma / factor)

    def window(self, most_px: int = _MOST_WINDOW_PX, radius: float = HALF_POWER) -> Int:
        """Return the pixel offsets (m, 2) within a radius in sigma, and at least the 3 x 3 about the centre.

        Of more than about `most_px` pixels every second is left out along both axes, or more.

        A fit to the core of the beam has a smaller error than one to all of it: noise that is as smooth as the beam
        weighs most in the wings (1.16 against 1.41 times the rms for a well-sampled beam).
        """
        half = self.half_power_px * (radius / HALF_POWER)
        stride = max(1, int(np.ceil(np.sqrt(4 * half[0] * half[1] / most_px))))
        nx, ny = (int(n) for n in np.maximum(half // stride, 1))
        y, x = (axis.ravel() for axis in np.mgrid[-ny : ny + 1, -nx : nx + 1])
        offsets = np.stack([x, y], axis=-1)
        distance = np.hypot(*(self.to_sigma @ (stride * offsets).T))
        return np.asarray(stride * offsets[(distance <= radius) | (np.abs(offsets).max(axis=-1) <= 1)])

    def noise_correlation(self, offsets: Int) -> Float:
        """Return the correlation (..., m, m) of the noise between pixels (..., m, 2): white noise smoothed by the beam.

        Its autocorrelation is the beam convolved with itself, a Gaussian sqrt(2) times as wide.
        """
        x, y = (offsets[..., :, None, i] - offsets[..., None, :, i] for i in (0, 1))
        return np.asarray(np.exp(-self.squared(x, y) / 4))

    def squared(self, x: Float | Int, y: Float | Int) -> Float:
        """Return the squared length of pixel offsets, in sigma."""
        (ux, uy), (vx, vy) = self.to_sigma
        return np.asarray((ux * x + uy * y) ** 2 + (vx * x + vy * y) ** 2)


def pixel_beam(beam: Beam, axes: Float) -> PixelBeam:
    """Return the beam on a pixel grid with `axes` (2, 2): degrees (east, north) per pixel (x, y).

    Raises
    ------
    ValueError
        When the beam has no area, or the pixels none.
    """
    if not (beam.major_deg > 0 and beam.minor_deg > 0 and np.isfinite([*_fields(beam)]).all()):
        raise ValueError(f"the beam {_fields(beam)} (major, minor, position angle in deg) must be finite and positive")
    pa = np.radians(beam.pa_deg)
    along = np.array([[np.sin(pa), np.cos(pa)], [np.cos(pa), -np.sin(pa)]])
    with np.errstate(over="ignore", invalid="ignore"):
        to_sigma = FWHM_PER_SIGMA / np.array([[beam.major_deg], [beam.minor_deg]]) * along @ axes
    if not (np.isfinite(to_sigma).all() and abs(np.linalg.det(to_sigma)) > np.finfo(float).tiny):
        raise ValueError(f"the pixels have the axes {axes.tolist()} (deg per pixel): they should span an area")
    return PixelBeam(to_sigma)


@lru_cache(maxsize=64)
def reference_axes(wcs: SkyWcs, shape: tuple[int, int]) -> Float:
    """Return degrees (east, north) per pixel (x, y), (2, 2), where the restoring beam is defined.

    The beam is the same in every pixel, also where the projection shrinks the sky: the size of a pixel is that at the
    reference, and the direction of north that at the centre of the array.
    """
    axes = wcs.axes_at((shape[1] - 1) / 2, (shape[0] - 1) / 2)[0]
    if not np.isfinite(axes).all():
        axes = np.diag([-1.0, 1.0])
    left, _, right = np.linalg.svd(axes)
    reference = np.asarray(left @ right @ np.diag(wcs.scale_deg()))
    reference.flags.writeable = False
    return reference


def _fields(beam: Beam) -> tuple[float, float, float]:
    return beam.major_deg, beam.minor_deg, beam.pa_deg
