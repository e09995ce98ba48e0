"""Which sources of an image are fitted together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from trapline.source_extractor.beam import FWHM_PER_SIGMA, PixelBeam

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

NEIGHBOUR_BEAMS = 2.0
"""Sources nearer than this many beams (full widths at half maximum) are fitted together"""
MOST_MEMBERS = 8
"""Largest group: larger ones cost more than the light that the farthest of them add"""
_CONFUSED_BEAMS = 10  # beams per source: with fewer an image is confused, and no fit tells its sources apart


@dataclass(frozen=True, slots=True)
class Group:
    """Groups of equally many `members` (g, k): indices of sources. Of each the first `kept` take the result."""

    members: Index
    kept: int


def grouped(position_px: Float, beam: PixelBeam, n_beams: float) -> list[Group]:
    """Return groups that hold every source once among those kept.

    Parameters
    ----------
    position_px
        (x, y) of n sources, (n, 2).
    beam
        Its shape on the pixel grid.
    n_beams
        How many beams the image holds. A confused image, of less than ten beams a source, is fitted source by source.
    """
    n = len(position_px)
    if n < 2 or n * _CONFUSED_BEAMS > n_beams:
        return [alone(np.arange(n))]
    places, reach = position_px @ beam.to_sigma.T, NEIGHBOUR_BEAMS * FWHM_PER_SIGMA
    tree = cKDTree(places)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(links, directed=False)
    count = np.bincount(label)[label]
    order = np.argsort(label, kind="stable")
    sizes = np.unique(count[count <= MOST_MEMBERS]).tolist()
    groups = [Group(order[count[order] == size].reshape(-1, size), size) for size in sizes]
    return groups + _of_the_many(tree, places, np.flatnonzero(count > MOST_MEMBERS), reach)


def alone(sources: Index) -> Group:
    """Return groups of one."""
    return Group(sources[:, None], 1)


def _of_the_many(tree: cKDTree, places: Float, rows: Index, reach: float) -> list[Group]:
    """Return a group for each source of a crowd: itself, which is kept, and its nearest neighbours."""
    if not rows.size:
        return []
    distance, member = tree.query(places[rows], k=range(1, MOST_MEMBERS + 1), distance_upper_bound=reach)
    member = np.where(np.isfinite(distance), member, -1).astype(np.intp)
    # Of two at one place either may come first: the one that is kept has to.
    first = member == rows[:, None]
    order = np.argsort(~first, axis=-1, kind="stable")
    member = np.take_along_axis(member, order, axis=-1)
    member[:, 0] = rows
    count = (member >= 0).sum(axis=-1)
    return [Group(member[count == size, :size], 1) for size in np.unique(count).tolist()]
