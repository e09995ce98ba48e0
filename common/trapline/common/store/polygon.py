"""Regions of the sky with corners, joined by great circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from trapline.common.sky import separation_deg, tangent_offsets, unit_vectors, vectors_to_sky

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

_WIDEST_DEG = 80.0


@dataclass(frozen=True, slots=True)
class Polygon:
    """Three or more corners, (n, 2) of (ra, dec) in ICRS degrees, in either direction, convex or not."""

    corners: Float

    @classmethod
    def of(cls, corners: Sequence[tuple[float, float]]) -> Self:
        """Return the polygon with these corners.

        Raises
        ------
        ValueError
            When they are no polygon, or it reaches further than 80 degrees from its middle.
        """
        array = np.asarray(corners, float)
        if array.ndim != 2 or array.shape[1:] != (2,) or len(array) < 3:
            raise ValueError("a region is three or more corners (ra, dec) in degrees")
        if not (np.isfinite(array).all() and (abs(array[:, 1]) <= 90).all()):
            raise ValueError("a corner of the region is no position: RA in degrees, DEC from -90 to 90 degrees")
        polygon = cls(array)
        if not polygon.cone()[2] <= _WIDEST_DEG:
            raise ValueError(f"the region reaches further than {_WIDEST_DEG:g} degrees from its middle: ask in parts")
        return polygon

    def cone(self) -> tuple[float, float, float]:
        """Return (ra, dec, radius) in degrees of a cone that holds the region."""
        middle = unit_vectors(self.corners[:, 0], self.corners[:, 1]).mean(axis=0)
        if np.linalg.norm(middle) < 1e-6:
            return 0.0, 0.0, 180.0
        ra, dec = (float(angle) for angle in vectors_to_sky(middle))
        return ra, dec, float(separation_deg(self.corners[:, 0], self.corners[:, 1], ra, dec).max()) * (1 + 1e-9) + 1e-9

    def holds(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bool:
        """Return which positions (n,) lie inside.

        In the gnomonic projection great circles are straight lines: a position is inside when a ray from it crosses
        the edges an odd number of times.
        """
        middle = self.cone()[:2]
        x, y = tangent_offsets(ra_deg, dec_deg, *middle)
        corner_x, corner_y = tangent_offsets(self.corners[:, 0], self.corners[:, 1], *middle)
        inside = np.zeros(x.shape, bool)
        for x0, y0, x1, y1 in zip(corner_x, corner_y, np.roll(corner_x, -1), np.roll(corner_y, -1), strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
        return inside & np.isfinite(x)
