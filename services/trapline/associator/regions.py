"""Who owns which part of the sky: regions of HEALPix cells, each with a margin that its owner folds along.

An object belongs for ever to the region in which its founding source lies. Sources of the margin are folded too, so
that objects near a border find the same candidates as if there were no border; what belongs to others is not told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.associator.cells_text import ORDER, WHOLE_SKY, Ranges, holds, ranges_of
from trapline.associator.footprint import cell_centres, cell_width_deg, cells_at
from trapline.common.sky import unit_vectors

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

# Cells in which the margin is decided: it is wider than asked for by at most three of their widths.
_FINEST_MARGIN_ORDER = 7


@dataclass(frozen=True, slots=True)
class Domain:
    """The part of the sky that one associator owns, and what it sees of the rest.

    Attributes
    ----------
    cells
        Its region, as text.
    salt
        What its records hash besides what they are about. Empty for the first region: where there is one region only,
        ids are those of an associator without regions.
    """

    cells: str = WHOLE_SKY
    salt: bytes = b""
    ranges: Ranges | None = field(default=None, repr=False, compare=False)
    near: Bool | None = field(default=None, repr=False, compare=False)
    """cells of `order` that are the region's or in its margin; None: all"""
    order: int = 0
    margin_deg: float = math.inf
    """how far around the region it sees at least, degrees"""

    @property
    def is_whole(self) -> bool:
        """Whether it owns the whole sky."""
        return self.ranges is None

    def owns(self, ra_deg: Float, dec_deg: Float) -> Bool:
        """Return which positions lie in the region."""
        if self.ranges is None:
            return np.ones(len(ra_deg), bool)
        return holds(self.ranges, cells_at(ra_deg, dec_deg, ORDER))

    def sees(self, ra_deg: Float, dec_deg: Float) -> Bool:
        """Return which positions lie in the region or its margin."""
        if self.near is None:
            return np.ones(len(ra_deg), bool)
        return np.asarray(self.near[cells_at(ra_deg, dec_deg, self.order)])


EVERYWHERE = Domain()


def domain_of(regions: Mapping[str, str], owner: str, margin_deg: float) -> Domain:
    """Return the part of an owner: the whole sky when there are no regions.

    Parameters
    ----------
    regions
        Cells by owner, as text; no cell in two.
    owner
        Name of a replica.
    margin_deg
        How far around its cells it folds along, degrees.

    Raises
    ------
    ValueError
        When it owns none.
    """
    if not regions:
        return EVERYWHERE
    if owner not in regions:
        raise ValueError(
            f"associator {owner!r} owns no region: [[associator.regions]] names the owners {', '.join(regions)}"
        )
    ranges = ranges_of(regions[owner])
    order, near = _near(ranges, margin_deg)
    salt = b"" if owner == next(iter(regions)) else owner.encode()
    return Domain(regions[owner], salt, ranges, near, order, margin_deg)


def _near(ranges: Ranges, margin_deg: float) -> tuple[int, Bool]:
    """Return an order, and which of its cells are in the region or no further from it than the margin."""
    order = min(max(math.ceil(math.log2(2 * cell_width_deg(0) / margin_deg)), 0), _FINEST_MARGIN_ORDER)
    shift, count = 2 * (ORDER - order), 12 << 2 * order
    inside = np.zeros(count + 1, np.int64)
    np.add.at(inside, ranges[:, 0] >> shift, 1)
    np.add.at(inside, ((ranges[:, 1] - 1) >> shift) + 1, -1)
    near = np.cumsum(inside[:-1]) > 0
    vectors = unit_vectors(*cell_centres(np.arange(count, dtype=np.int64), order))
    # No point of a cell is further from its centre than the cell's width: that of two cells.
    reach_deg = min(margin_deg + 2 * cell_width_deg(order), 180.0)
    distance, _ = cKDTree(vectors[near]).query(vectors[~near])
    near[~near] = distance <= 2 * math.sin(math.radians(reach_deg) / 2)
    return order, near
