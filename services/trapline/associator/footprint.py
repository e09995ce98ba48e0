"""Where an image measured the sky, apart from when: equal footprints are recognised, and written into HEALPix cells.

Whether an image covers a position is decided at the centre of the position's cell, everywhere and always, so that a
footprint and the cells it was written into give the same answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy_healpix import healpix_to_lonlat, lonlat_to_healpix

from trapline.common.region import bounding_cone, covers
from trapline.common.sky import unit_vectors
from trapline.schemas.image import Image

Float = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

MAX_ORDER = 24


@dataclass(frozen=True, slots=True)
class Footprint:
    """What decides which positions an image covers."""

    wcs: str
    shape: tuple[int, int]
    radius_deg: float | None
    margin_px: int

    @classmethod
    def of(cls, image: Image) -> Footprint:
        """Return the footprint of an image.

        Raises
        ------
        ValueError
            When the image has no WCS or no shape.
        """
        if image.wcs is None or image.shape is None:
            raise ValueError(f"image {image.id.hex()} was measured, and has no WCS or no shape: both should be set")
        ny, nx = image.shape
        return cls(image.wcs, (ny, nx), image.radius_deg, image.margin_px)

    def covers(self, ra_deg: Float, dec_deg: Float) -> Bool:
        """Return which positions lie in the measured region."""
        return covers(self._image(), ra_deg, dec_deg)

    def cone(self) -> tuple[Float, float]:
        """Return a cone that holds the region: unit vector of its axis, and its radius in degrees.

        The whole sky (180 degrees) when the region reaches beyond the sky, as that of an all-sky image does.
        """
        axis, radius_deg = bounding_cone(self.wcs, self.shape, self.radius_deg, self.margin_px)
        return np.array(axis), radius_deg

    def _image(self) -> Image:
        return Image(id=bytes(16), wcs=self.wcs, shape=self.shape, radius_deg=self.radius_deg, margin_px=self.margin_px)


@lru_cache(maxsize=256)
def cell_order(footprint: Footprint, width_deg: float, most_cells: int) -> int:
    """Return the HEALPix order whose cells are narrower than `width_deg`, or what `most_cells` allows in an image."""
    _, radius_deg = footprint.cone()
    order = min(max(math.ceil(math.log2(cell_width_deg(0) / width_deg)), 0), MAX_ORDER)
    sky_fraction = (1 - math.cos(math.radians(radius_deg))) / 2
    while order > 0 and sky_fraction * _cells_of_sky(order) > most_cells:
        order -= 1
    return order


@lru_cache(maxsize=4)
def covered_cells(footprint: Footprint, order: int) -> Cells:
    """Return the cells (nested numbering) whose centres a footprint covers, in ascending order."""
    cells = cells_near(footprint, order)
    return cells[footprint.covers(*cell_centres(cells, order))]


@lru_cache(maxsize=16)
def cells_near(footprint: Footprint, order: int) -> Cells:
    """Return the cells that a footprint may touch, and some more around them, in ascending order."""
    axis, radius_deg = footprint.cone()
    cells = np.arange(12, dtype=np.int64)
    for level in range(order + 1):
        # No point of a cell is further from its centre than its width.
        reach = math.radians(min(radius_deg + cell_width_deg(level), 180.0))
        cells = cells[unit_vectors(*cell_centres(cells, level)) @ axis >= math.cos(reach) - 1e-12]
        if level < order:
            cells = (cells[:, None] * 4 + np.arange(4)).ravel()
    return cells


def covered_at(footprint: Footprint, order: int, ra_deg: Float, dec_deg: Float) -> Bool:
    """Return which positions count as covered by a footprint: those whose cell's centre lies in it."""
    return footprint.covers(*cell_centres(cells_at(ra_deg, dec_deg, order), order))


def cells_at(ra_deg: Float, dec_deg: Float, order: int) -> Cells:
    """Return the cell that holds each position."""
    cells = lonlat_to_healpix(ra_deg * u.deg, dec_deg * u.deg, 1 << order, order="nested")
    return np.asarray(cells, np.int64)


def cell_centres(cells: Cells, order: int) -> tuple[Float, Float]:
    """Return (ra_deg, dec_deg) of the centres of cells."""
    lon, lat = healpix_to_lonlat(cells, 1 << order, order="nested")
    return np.asarray(lon.to_value(u.deg), float), np.asarray(lat.to_value(u.deg), float)


def _cells_of_sky(order: int) -> int:
    return 12 << (2 * order)


def cell_width_deg(order: int) -> float:
    """Return the width of a cell of an order: the side of a square of its area."""
    return math.degrees(math.sqrt(4 * math.pi / _cells_of_sky(order)))
