"""Islands with several peaks, taken apart: a source beside another is a source of its own.

A peak is one of its own when it rises above every saddle between it and a higher one, and above what the beam of the
higher one leaves there. A saddle is taken as the lowest pixel of the straight line between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.source_extractor.beam import FWHM_PER_SIGMA, PixelBeam
from trapline.source_extractor.noise import Pixels

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

_REACH = 3.0 * FWHM_PER_SIGMA  # in sigma of the beam: what is further apart has nothing to do with each other
_PROFILE = 2.0  # times the beam of the higher peak: its brightest pixel is beside its maximum
_NEIGHBOURS = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))  # (y, x)
_CLAIMS = 8  # nearest peaks that may claim a pixel
_MOST_PAIRS = 1 << 21  # of maxima near one another, counted twice: with more an image is no sky, and stays as it is
_MOST_MAXIMA = 1 << 17
_SAMPLES = 1 << 20  # pixels of lines at a time: bounds memory


@dataclass(frozen=True, slots=True)
class Above:
    """The pixels of islands: their flat index, value, number of the island, and noise, (n,)."""

    index: Index
    value: Float
    label: Index
    rms: Float


def apart(pixels: Above, flat: Pixels, beam: PixelBeam, detection: float, prominence: float) -> Index:
    """Return the island of each pixel, numbered anew and beyond all others where islands were taken apart.

    Each pixel goes to the peak that gives it most light.

    Parameters
    ----------
    pixels
        Those above the analysis threshold.
    flat
        The image without background, (ny, nx).
    beam
        Its shape on the pixel grid.
    detection
        Threshold of peaks, in sigma.
    prominence
        By how much a peak must rise above the saddle to a higher one, in sigma.
    """
    label = pixels.label
    high = np.flatnonzero(pixels.value > detection * pixels.rms)
    top = high[_maxima(pixels.index[high], flat)]
    several = np.bincount(label[top], minlength=int(label.max(initial=-1)) + 1) > 1
    top = top[several[label[top]]]
    if not top.size:
        return label
    places = _places(pixels.index[top], flat.shape[1]) @ beam.to_sigma.T
    if _too_many(places):
        return label
    own = _own(pixels, flat, top, places, prominence)
    top, places = top[own], places[own]
    several = np.bincount(label[top], minlength=len(several)) > 1
    rows = np.flatnonzero(several[label])
    if not rows.size:
        return label
    claimed = label.copy()
    claimed[rows] = len(several) + _claims(pixels, rows, top, places, _places(pixels.index[rows], flat.shape[1]), beam)
    return claimed


def _too_many(places: Float) -> bool:
    if len(places) > _MOST_MAXIMA:
        return True
    tree = cKDTree(places)
    return bool(tree.count_neighbors(tree, _REACH) > _MOST_PAIRS)


def _places(index: Index, nx: int) -> Float:
    y, x = np.divmod(index, nx)
    return np.stack([x, y], axis=-1).astype(np.float64)


def _maxima(index: Index, flat: Pixels) -> Index:
    """Return which of these pixels no neighbour exceeds, of equal ones the first; none at the border."""
    ny, nx = flat.shape
    y, x = np.divmod(index, nx)
    left = np.flatnonzero((y > 0) & (y < ny - 1) & (x > 0) & (x < nx - 1))
    values = flat.ravel()
    for dy, dx in _NEIGHBOURS:
        # Each comparison leaves half of them.
        own, other = values[index[left]], values[index[left] + (dy * nx + dx)]
        left = left[~(other >= own if (dy, dx) < (0, 0) else other > own)]
    return left


def _own(pixels: Above, flat: Pixels, top: Index, places: Float, prominence: float) -> Bool:
    """Return which maxima are peaks of their own beside those that are higher."""
    value = pixels.value[top]
    high, low = _compared(places, value, pixels.label[top])
    squared = ((places[high] - places[low]) ** 2).sum(axis=-1)
    below = np.maximum(_saddles(flat, pixels.index[top[high]], pixels.index[top[low]]),
                       _PROFILE * value[high] * np.exp(-squared / 2))  # fmt: skip
    own = np.ones(len(top), bool)
    own[low[value[low] - below <= prominence * pixels.rms[top[low]]]] = False
    return own


def _compared(places: Float, value: Float, label: Index) -> tuple[Index, Index]:
    """Return pairs of a higher and a lower maximum: all near ones, and else the brightest of the island."""
    pairs = cKDTree(places).query_pairs(_REACH, output_type="ndarray")
    pairs = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]]
    swap = value[pairs[:, 0]] < value[pairs[:, 1]]
    high, low = np.where(swap, pairs[:, 1], pairs[:, 0]), np.where(swap, pairs[:, 0], pairs[:, 1])
    brightest = _brightest(value, label)
    alone = brightest != np.arange(len(label))
    alone[low] = False
    rest = np.flatnonzero(alone)
    return np.concatenate([high, brightest[rest]]), np.concatenate([low, rest])


def _brightest(value: Float, label: Index) -> Index:
    """Return for each maximum the brightest of its island."""
    order, found = np.argsort(value, kind="stable"), np.zeros(int(label.max()) + 1, np.intp)
    found[label[order]] = order
    return np.asarray(found[label])


def _saddles(flat: Pixels, one: Index, other: Index) -> Float:
    """Return the lowest pixel on the line between pixels, (n,)."""
    nx, found = flat.shape[1], np.zeros(len(one))
    (y1, x1), (y2, x2) = np.divmod(one, nx), np.divmod(other, nx)
    count = np.maximum(np.abs(y2 - y1), np.abs(x2 - x1)) + 1
    chunk = (np.cumsum(count) - count) // _SAMPLES
    for number in np.unique(chunk).tolist():
        rows = np.flatnonzero(chunk == number)
        steps = count[rows]
        begin = np.cumsum(steps) - steps
        pair = np.repeat(rows, steps)
        part = (np.arange(len(pair)) - np.repeat(begin, steps)) / (count[pair] - 1)
        y, x = (np.rint(a[pair] + part * (b - a)[pair]).astype(np.intp) for a, b in ((y1, y2), (x1, x2)))
        found[rows] = np.minimum.reduceat(flat[y, x].astype(np.float64), begin)
    return found


def _claims(pixels: Above, rows: Index, top: Index, places: Float, at_px: Float, beam: PixelBeam) -> Index:
    """Return for pixels (rows) the peak of their island that gives them most light; far from all, the brightest."""
    label, count = pixels.label, min(_CLAIMS, len(top))
    distance, nearest = cKDTree(places).query(at_px @ beam.to_sigma.T, k=range(1, count + 1))
    peak = np.asarray(nearest, np.intp)
    light = np.log(pixels.value[top])[peak] - distance**2 / 2
    light = np.where(label[top][peak] == label[rows][:, None], light, -np.inf)
    chosen = peak[np.arange(len(rows)), light.argmax(axis=1)]
    brightest = np.zeros(int(label.max()) + 1, np.intp)
    brightest[label[top]] = _brightest(pixels.value[top], label[top])
    return np.asarray(np.where(np.isfinite(light.max(axis=1)), chosen, brightest[label[rows]]))
