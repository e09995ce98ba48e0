"""What earlier images allow to say about a position: how many covered it, and the smallest limits among them.

Images of one pointing are kept together, so that a fixed field costs one look-up per image. When there are too many
pointings, because the field drifts, the one that was used longest ago is written into cells: the state does not grow
with the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trapline.associator.cells import LIMIT, Pages, no_limits, smaller
from trapline.associator.config import AssociatorConfig
from trapline.associator.footprint import Footprint, cell_centres, cell_order, cells_at, covered_cells
from trapline.common.table import Rows
from trapline.schemas.image import Image

Float = npt.NDArray[np.float64]
Band = tuple[str, str]
"""name of the band, and Stokes parameter"""


@dataclass(slots=True)
class Pointing:
    """Images of one footprint: their number, and the smallest limits, (1,) of `LIMIT`."""

    n: int = 0
    limit: Rows = field(default_factory=lambda: no_limits(1))

    def add(self, limit: Rows, count: int) -> None:
        """Count more images, the best of which has these limits."""
        self.n += count
        if smaller(limit, self.limit)[0]:
            self.limit = limit


@dataclass(slots=True)
class Layer:
    """Images of one band whose coverage is decided at cells of one order."""

    open: dict[Footprint, Pointing] = field(default_factory=dict[Footprint, Pointing])
    """the pointing that was used longest ago comes first"""
    cells: Pages = field(default_factory=Pages.empty)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an image belongs: worked out before anything changes, because a header may be wrong."""

    band: Band
    order: int
    footprint: Footprint


@dataclass(slots=True)
class Coverage:
    """Coverage of the images folded so far, by band and order of the cells."""

    layers: dict[tuple[Band, int], Layer] = field(default_factory=dict[tuple[Band, int], Layer])

    def add(self, spot: Spot, limit: Rows, open_pointings: int, *, count: int = 1) -> None:
        """Take in images of one spot, the best of which has the limits `limit`, (1,) of `LIMIT`."""
        layer = self.layers.setdefault((spot.band, spot.order), Layer())
        pointing = layer.open.pop(spot.footprint, None) or Pointing()
        pointing.add(limit, count)
        layer.open[spot.footprint] = pointing
        while len(layer.open) > open_pointings:
            oldest = next(iter(layer.open))
            closed = layer.open.pop(oldest)
            layer.cells.add(covered_cells(oldest, spot.order), closed.n, closed.limit)

    def at(self, band: Band, ra_deg: Float, dec_deg: Float) -> tuple[npt.NDArray[np.int64], Rows]:
        """Return per position the number of images of a band that covered it, and the smallest limits.

        Of equal limits (by low, then high) those of the image folded first; `no_limits` where no image covered it.
        """
        n, limits = np.zeros(len(ra_deg), np.int64), no_limits(len(ra_deg))
        for (layer_band, order), layer in self.layers.items() if len(ra_deg) else ():
            if layer_band != band:
                continue
            cells = cells_at(ra_deg, dec_deg, order)
            written = layer.cells.look(cells)
            n += written[0]
            _keep_smaller(limits, written[1], np.ones(len(cells), bool))
            centres = cell_centres(cells, order)
            for footprint, pointing in layer.open.items():
                covered = footprint.covers(*centres)
                n += pointing.n * covered
                _keep_smaller(limits, np.repeat(pointing.limit, len(cells)), covered)
        return n, limits


def spot_of(image: Image, band: Band, settings: AssociatorConfig) -> Spot:
    """Return where the coverage of an image belongs.

    Raises
    ------
    ValueError
        When the image has no shape, or no WCS that can be read.
    """
    footprint = Footprint.of(image)
    width_deg = image.beam.minor_deg / 2 if image.beam else settings.no_beam_limit_deg / 2
    return Spot(band, cell_order(footprint, width_deg, settings.coverage_cells), footprint)


def limit_of(image_id: bytes, fold: int, rms: tuple[float, float], threshold_sigma: float) -> Rows:
    """Return the limits of an image, (1,): the fluxes it may and must have shown, for noise from rms[0] to rms[1]."""
    limit = np.zeros(1, LIMIT)
    limit["low"], limit["high"] = rms[0] * threshold_sigma, rms[1] * threshold_sigma
    limit["fold"] = fold
    limit["image_id"] = np.frombuffer(image_id, np.uint8)
    return limit


def _keep_smaller(limits: Rows, others: Rows, where: npt.NDArray[np.bool_]) -> None:
    better = where & smaller(others, limits)
    limits[better] = others[better]
