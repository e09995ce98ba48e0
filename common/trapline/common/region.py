"""The part of an image that is measured: one answer for who detects, who associates and who sets limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trapline.common.sky import from_tangent, separation_deg, unit_vectors
from trapline.common.wcs import SkyWcs, parse_wcs
from trapline.schemas.image import Image

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

# A circle of 90 degrees ends at the horizon, where projections have no pixel: it is drawn just inside.
_HORIZON_DEG = 89.99
_GRID = 65


def inside(image: Image, x: npt.ArrayLike, y: npt.ArrayLike) -> Bool:
    """Return which 0-based pixel positions are measured; any shape, broadcast.

    The region is the array without `margin_px` on each side and, where `radius_deg` is set, inside the circle about the
    centre of the array. A position that is NaN is outside.

    Raises
    ------
    ValueError
        When the image has no shape, or a radius and no WCS.
    """
    ny, nx = _shape(image)
    x, y = np.asarray(x, float), np.asarray(y, float)
    first = image.margin_px - 0.5
    last_x, last_y = nx - image.margin_px - 0.5, ny - image.margin_px - 0.5
    result = (x >= first) & (x < last_x) & (y >= first) & (y < last_y)
    if image.radius_deg is not None:
        result = result & _circle(_cards(image), (ny, nx), image.radius_deg).holds(x, y)
    return np.asarray(result)


def covers(image: Image, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bool:
    """Return which ICRS positions lie in the region of an image; any shape, broadcast.

    Positions on the far side of the sky, or NaN, are not covered.

    Raises
    ------
    ValueError
        When the image has no shape or no WCS.
    """
    return inside(image, *on_array(image, ra_deg, dec_deg))


def on_array(image: Image, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[Float, Float]:
    """Return the 0-based pixel positions (x, y) of ICRS positions; NaN where they are not on the array.

    Raises
    ------
    ValueError
        When the image has no shape or no WCS.
    """
    ny, nx = _shape(image)
    wcs = parse_wcs(_cards(image))
    x, y = wcs.to_pixel(ra_deg, dec_deg)
    found = np.asarray((x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5))
    # Polynomial distortions fold far parts of the sky back onto the array: only what returns to itself is there.
    back = separation_deg(*wcs.to_sky(x[found], y[found]), *(a[found] for a in np.broadcast_arrays(ra_deg, dec_deg)))
    found[found] = back < max(wcs.scale_deg())
    return np.where(found, x, np.nan), np.where(found, y, np.nan)


@lru_cache(maxsize=256)
def bounding_cone(
    cards: str, shape: tuple[int, int], radius_deg: float | None, margin_px: int
) -> tuple[tuple[float, float, float], float]:
    """Return a cone that holds the region of images like this: unit vector of its axis, and its radius in degrees.

    The whole sky (180 degrees) when the region reaches beyond the sky, as that of an all-sky image does.
    """
    image = Image(id=bytes(16), wcs=cards, shape=shape, radius_deg=radius_deg, margin_px=margin_px)
    x, y = np.meshgrid(np.linspace(-0.5, shape[1] - 0.5, _GRID), np.linspace(-0.5, shape[0] - 0.5, _GRID))
    vectors = unit_vectors(*parse_wcs(cards).to_sky(x, y))
    axis, region = vectors[_GRID // 2, _GRID // 2], inside(image, x, y)
    if not np.isfinite(vectors[region]).all() or not np.isfinite(axis).all():
        return (0.0, 0.0, 1.0), 180.0
    # A region may end anywhere between two points of the grid.
    gap = max(_largest(_angle_deg(vectors[1:], vectors[:-1])), _largest(_angle_deg(vectors[:, 1:], vectors[:, :-1])))
    reach_deg = _largest(_angle_deg(vectors, axis)[region]) + 2 * gap
    return (float(axis[0]), float(axis[1]), float(axis[2])), min(reach_deg, 180.0)


@dataclass(frozen=True, slots=True)
class _Circle:
    """A circle in the image plane: an ellipse in pixels when these are not square."""

    x: float
    y: float
    # Squared distance in deg^2: xx dx^2 + xy dx dy + yy dy^2.
    xx: float
    xy: float
    yy: float
    squared_radius: float

    def holds(self, x: Float, y: Float) -> Bool:
        dx, dy = x - self.x, y - self.y
        return np.asarray(self.xx * dx * dx + self.xy * dx * dy + self.yy * dy * dy <= self.squared_radius)


@lru_cache(maxsize=64)
def _circle(cards: str, shape: tuple[int, int], radius_deg: float) -> _Circle:
    wcs = parse_wcs(cards)
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    axes = wcs.axes_at(x, y)[0]
    if not np.isfinite(axes).all():
        axes = np.diag(wcs.scale_deg())
    metric = axes.T @ axes
    # A radius of 0 or below, or NaN, holds nothing.
    squared = _reach(wcs, axes, (x, y), radius_deg) ** 2 if radius_deg > 0 else -1.0
    return _Circle(x, y, float(metric[0, 0]), float(2 * metric[0, 1]), float(metric[1, 1]), squared)


def _reach(wcs: SkyWcs, axes: Float, centre: tuple[float, float], radius_deg: float) -> float:
    """Return the radius in the image plane in degrees at the scale of its centre: shorter than on the sky in SIN."""
    bearing = np.radians(np.arange(0.0, 360.0, 45.0))
    tangent_deg = np.degrees(np.tan(np.radians(min(radius_deg, _HORIZON_DEG))))
    ra, dec = wcs.to_sky(*centre)
    x, y = wcs.to_pixel(*from_tangent(tangent_deg * np.sin(bearing), tangent_deg * np.cos(bearing), ra, dec))
    distance = np.hypot(*(axes @ np.stack([x - centre[0], y - centre[1]])))
    finite = distance[np.isfinite(distance)]
    return float(finite.mean()) if finite.size else radius_deg


def _shape(image: Image) -> tuple[int, int]:
    if image.shape is None:
        raise ValueError("the image has no shape: (ny, nx) should be set")
    return image.shape


def _cards(image: Image) -> str:
    if image.wcs is None:
        raise ValueError("the image has no WCS: its FITS cards should be set")
    return image.wcs


def _angle_deg(a: Float, b: Float) -> Float:
    return np.asarray(np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0.0, 1.0))))


def _largest(angles: Float) -> float:
    return float(np.max(angles, initial=0.0, where=np.isfinite(angles)))
