"""Islands of connected pixels above a threshold, without a look at the pixels below it.

The few pixels above the threshold are gathered into runs along rows; runs of adjacent rows that touch, also at a
corner, belong together. What is done after the first comparison costs by the pixels above, not by the image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import sep
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trapline.source_extractor.beam import PixelBeam
from trapline.source_extractor.noise import Pixels
from trapline.source_extractor.peaks import Above, apart

Float = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

ISLAND = np.dtype(
    [
        ("x", "f8"),  # barycentre
        ("y", "f8"),
        ("peak", "f8"),
        ("xpeak", "i8"),  # brightest pixel
        ("ypeak", "i8"),
        ("npix", "i8"),
        ("flux", "f8"),  # sum over the pixels
        ("x2", "f8"),  # second moments, weighted with the pixels
        ("xy", "f8"),
        ("y2", "f8"),
        ("flag", "i4"),  # OBJ_TRUNC: touches the edge of the image; OBJ_MERGED: one of several peaks
    ]
)
"""The columns and flags, named as those of sep."""
_BLOCK = 1 << 16  # pixels at a time: they stay in the processor's cache


class Limits(NamedTuple):
    """What an island is: thresholds in sigma, its smallest number of pixels, and what makes a second peak of it one."""

    analysis: float
    detection: float
    min_area_px: int
    prominence: float = 0.0
    """height above the saddle to a higher peak, in sigma"""


def islands_above(flat: Pixels, rms: Pixels, limits: Limits, beam: PixelBeam | None = None) -> npt.NDArray[np.void]:
    """Return the islands above `analysis` times the noise whose brightest pixel is above `detection` times the noise.

    Parameters
    ----------
    flat, rms
        The image without background, and its noise, (ny, nx).
    limits
        What an island is.
    beam
        With it, islands of several peaks are taken apart: `peaks.apart`.
    """
    index = _above(flat, rms, limits.analysis)
    if not index.size:
        return np.zeros(0, ISLAND)
    value = flat.ravel()[index].astype(np.float64)
    label = _labels(index, flat.shape[1])
    # Most islands are fluctuations: what has no high pixel at all goes first, what follows is for few.
    hopeful = np.zeros(int(label.max()) + 1, bool)
    hopeful[label[value > limits.detection * rms.ravel()[index]]] = True
    hopeful &= np.bincount(label) >= limits.min_area_px
    keep = hopeful[label]
    index, value, label = index[keep], value[keep], label[keep]
    if not index.size:
        return np.zeros(0, ISLAND)
    n_islands = int(label.max()) + 1
    if beam is not None:
        pixels = Above(index, value, label, rms.ravel()[index].astype(np.float64))
        label = apart(pixels, flat, beam, limits.detection, limits.prominence)
    order = np.argsort(label, kind="stable")
    label = label[order]
    table = _described(index[order], value[order], label, flat.shape)
    table["flag"][label[np.flatnonzero(np.append(True, np.diff(label) != 0))] >= n_islands] |= sep.OBJ_MERGED
    high: npt.NDArray[np.bool_] = table["peak"] > limits.detection * rms[table["ypeak"], table["xpeak"]].astype(
        np.float64
    )
    return np.asarray(table[high])


def _above(flat: Pixels, rms: Pixels, threshold: float) -> Index:
    """Return the flat index of pixels above a threshold, in rising order."""
    ny, nx = flat.shape
    height = max(1, _BLOCK // nx)
    least, above = np.empty((height, nx), np.float32), np.empty((height, nx), bool)
    found = []
    with np.errstate(over="ignore"):
        for low in range(0, ny, height):
            rows = slice(low, min(low + height, ny))
            n = rows.stop - low
            np.multiply(rms[rows], np.float32(threshold), out=least[:n])
            np.greater(flat[rows], least[:n], out=above[:n])
            found.append(np.flatnonzero(above[:n]) + low * nx)
    return np.concatenate(found)


def _labels(index: Index, nx: int) -> Index:
    """Return the number of its island for each pixel."""
    row = index // nx
    # One more column than there is, so that the end of a row does not touch the beginning of the next.
    place = index + row
    new = np.ones(len(index), bool)
    new[1:] = np.diff(place) != 1
    begin = np.flatnonzero(new)
    first, last = place[begin], place[np.append(begin[1:], len(index)) - 1]
    # Runs of the next row from the one that ends at or after our left neighbour to the one that begins at our right.
    low = np.searchsorted(last, first + nx, "left")
    number = np.maximum(np.searchsorted(first, last + nx + 2, "right") - low, 0)
    one = np.repeat(np.arange(len(begin)), number)
    other = np.arange(len(one)) - np.repeat(np.cumsum(number) - number, number) + np.repeat(low, number)
    links = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(begin), len(begin)))
    _, label = connected_components(links, directed=False)
    return np.repeat(label, np.diff(np.append(begin, len(index)))).astype(np.intp)


def _described(index: Index, value: Float, label: Index, shape: tuple[int, ...]) -> npt.NDArray[np.void]:
    """Return the table of islands; pixels are sorted by label, and by index within."""
    ny, nx = shape
    begin = np.flatnonzero(np.append(True, np.diff(label) != 0))
    n_px = np.diff(np.append(begin, len(index)))
    table = np.zeros(len(begin), ISLAND)
    table["npix"], table["peak"] = n_px, np.maximum.reduceat(value, begin)
    rank = np.repeat(np.arange(len(begin)), n_px)
    highest = np.flatnonzero(value == table["peak"][rank])
    _, first = np.unique(rank[highest], return_index=True)
    table["ypeak"], table["xpeak"] = np.divmod(index[highest[first]], nx)
    y, x = np.divmod(index, nx)
    at_edge = (x == 0) | (y == 0) | (x == nx - 1) | (y == ny - 1)
    table["flag"] = np.where(np.logical_or.reduceat(at_edge, begin), sep.OBJ_TRUNC, 0)
    # Relative to the brightest pixel: differences of large numbers have few digits.
    dx, dy = x - table["xpeak"][rank], y - table["ypeak"][rank]
    weight = value / table["peak"][rank]
    total = np.add.reduceat(weight, begin)
    mx, my, xx, xy, yy = (np.add.reduceat(weight * q, begin) / total for q in (dx, dy, dx * dx, dx * dy, dy * dy))
    table["x"], table["y"] = table["xpeak"] + mx, table["ypeak"] + my
    table["x2"], table["xy"], table["y2"] = np.maximum(xx - mx * mx, 0), xy - mx * my, np.maximum(yy - my * my, 0)
    table["flux"] = total * table["peak"]
    return table
