"""Background and noise on a mesh: clipped statistics of each cell from a sample of its pixels.

Where the noise is as smooth as the beam, neighbouring pixels say the same: a sample of every second or third tells as
much as all of them (the variance of an estimate grows with the lattice sum of the squared correlation, which hardly
changes up to 1.2 sigma of the beam). Each cell is sorted once; from then on every clipping is a search, and every sum a
difference of cumulative sums. Where each pixel has noise of its own, a fifth of a cell is sorted, and one look at all
of its pixels makes of that what sorting them all would have given.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, erf, exp, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, median_filter

Float = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

_CLIP_RMS = 2.5
"""Clipping of the noise, in sigma: tighter than the 3 of the level, since only the noise can be corrected for it."""
_CLIP_LEVEL = 3.0
_ITERATIONS = 5
_THIN, _FEWEST_RANKS = 3, 50
_PART, _FEWEST_WHOLE = 5, 2048  # every fifth is sorted of cells with so many samples
_SLOPE = 0.26  # d ln(deviation) / d ln(clip) of a normal distribution cut at 2.5 sigma
_ONE_SIGMA_BELOW = 0.15866
# A normal distribution cut at 2.5 sigma is narrower than the whole.
_UNCUT = 1 / sqrt(1 - 2 * _CLIP_RMS * exp(-(_CLIP_RMS**2) / 2) / sqrt(2 * pi) / erf(_CLIP_RMS / sqrt(2)))
_LEAST_FILLED = 0.25  # of the fullest cell: emptier ones take the values of their neighbours
_LARGEST = 1e38  # the noise has to be a number of float32
_BLOCK = 1 << 15  # pixels at a time: they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Axis:
    """Between which cells the pixels of an axis lie, `before` and `after`, and what `fraction` of the way."""

    before: Index
    after: Index
    fraction: Pixels

    @classmethod
    def of(cls, n_px: int, n_samples: int, cell: int, stride: int) -> Axis:
        """Return the axis of `n_px` pixels, of which every `stride`-th is a sample, `cell` of them in a cell."""
        first = np.arange(0, n_samples, cell)
        centre = stride * (first + np.minimum(first + cell, n_samples) - 1) / 2
        x = np.arange(n_px)
        before = np.clip(np.searchsorted(centre, x, "right") - 1, 0, max(len(centre) - 2, 0))
        after = np.minimum(before + 1, len(centre) - 1)
        width = np.maximum(centre[after] - centre[before], 1e-9)
        return cls(before, after, ((x - centre[before]) / width * (after > before)).astype(np.float32))

    def weights(self, *, cut: bool) -> Pixels:
        """Return how much of the one cell and of the other (n, 2) is in each pixel; `cut`: from 0 to 1."""
        fraction = self.fraction.clip(0.0, 1.0) if cut else self.fraction
        return np.stack([1 - fraction, fraction], axis=-1)


@dataclass(frozen=True, slots=True)
class NoiseMesh:
    """Level and noise of cells (my, mx), both without the outliers among cells, and where the cells are."""

    level: Pixels
    rms: Pixels
    y: Axis
    x: Axis

    def spread(self, flat: Pixels, rms: Pixels, pixels: npt.NDArray[np.generic], wanted: slice) -> slice:
        """Write ``pixels - level`` into `flat`, and the noise into `rms`: linear between the centres of cells.

        Beyond the outermost centres the level goes on as it was, the noise stays. Rows are written in blocks, at least
        those that are `wanted`, and returned; each block is the same to the last bit, whichever others are written.
        """
        level, rms_rows = _along_x(self.level, self.x, cut=False), _along_x(self.rms, self.x, cut=True)
        weights, cut_weights = self.y.weights(cut=False), self.y.weights(cut=True)
        height = max(1, _BLOCK // flat.shape[1])
        buffer = np.empty((height, flat.shape[1]), np.float32)
        ends = np.append(np.flatnonzero(np.diff(self.y.before)) + 1, len(flat))
        written: list[slice] = []
        for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            pair = [self.y.before[start], self.y.after[start]]
            levels, noises = level[pair], rms_rows[pair]
            for low in range(start, end, height):
                rows = slice(low, min(low + height, end))
                if rows.stop <= wanted.start or rows.start >= wanted.stop:
                    continue
                written.append(rows)
                here = buffer[: rows.stop - rows.start]
                # A product of matrices of rank two: one pass over the pixels instead of three.
                np.matmul(weights[rows], levels, out=here)
                np.subtract(pixels[rows], here, out=flat[rows], dtype=np.float32, casting="unsafe")
                np.matmul(cut_weights[rows], noises, out=rms[rows])
        return slice(written[0].start, written[-1].stop)


class Meshes:
    """The meshes of the images that were measured last: whoever measures one again need not look at all of its pixels.

    Parameters
    ----------
    most
        How many are kept; each has a number per cell and three per row and column of the image.
    """

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._of: dict[bytes, NoiseMesh] = {}

    def of(self, image_id: bytes) -> NoiseMesh | None:
        """Return the mesh of an image; None when it is not known any more."""
        return self._of.get(image_id)

    def keep(self, image_id: bytes, mesh: NoiseMesh | None) -> None:
        """Remember the mesh of an image that has one."""
        if mesh is not None:
            self._of.pop(image_id, None)
            self._of[image_id] = mesh
            if len(self._of) > self._most:
                del self._of[next(iter(self._of))]


def noise_mesh(sample: Pixels, shape: tuple[int, int], mesh_px: int, stride: int) -> NoiseMesh | None:
    """Return the mesh of an image; None when no pixel is a number.

    Parameters
    ----------
    sample
        Every `stride`-th pixel of the image along both axes; NaN where a pixel must not be used.
    shape
        (ny, nx) of the image.
    mesh_px
        Side of a cell.
    stride
        Distance of the samples.
    """
    cell = max(1, round(mesh_px / stride))
    cells, n_y = _cells(sample, cell)
    level, rms, count = _statistics(cells)
    good = (count > 0) & (count >= _LEAST_FILLED * count.max(initial=0))
    if not good.any():
        return None
    nearest = (
        None
        if good.all()
        else distance_transform_edt(~good.reshape(n_y, -1), return_distances=False, return_indices=True)
    )
    grids = (values.reshape(n_y, -1) for values in (level, rms))
    level, rms = (grid if nearest is None else grid[tuple(nearest)] for grid in grids)
    y, x = (Axis.of(shape[i], sample.shape[i], cell, stride) for i in (0, 1))
    return NoiseMesh(_filtered(level, slope=True), _filtered(rms, slope=False), y, x)


def _filtered(values: Float, *, slope: bool) -> Pixels:
    """Return the median of each cell and its eight neighbours; beyond the edge a slope goes on, or values stay."""
    wide = np.pad(values, 1, mode="reflect", reflect_type="odd") if slope else np.pad(values, 1, mode="edge")
    return np.asarray(median_filter(wide, 3)[1:-1, 1:-1].clip(-_LARGEST, _LARGEST), np.float32)


def _cells(sample: Pixels, cell: int) -> tuple[Pixels, int]:
    """Return the samples of each cell (n, m), and how many cells lie along y."""
    (sy, sx), n_y, n_x = sample.shape, ceil(sample.shape[0] / cell), ceil(sample.shape[1] / cell)
    if (n_y * cell, n_x * cell) != (sy, sx):
        whole = np.full((n_y * cell, n_x * cell), np.nan, np.float32)
        whole[:sy, :sx] = sample
        sample = whole
    return sample.reshape(n_y, cell, n_x, cell).swapaxes(1, 2).reshape(n_y * n_x, -1), n_y


def _statistics(cells: Pixels) -> tuple[Float, Float, Index]:
    """Return level, noise and number of samples of cells (n, m); of small ones the samples are sorted in place."""
    if cells.shape[1] < _FEWEST_WHOLE:
        cells.sort(axis=-1)
        level, rms, _, filled = _of_sorted(cells)
        return level, rms, filled
    filled = np.asarray(cells.shape[1] - np.isnan(cells).sum(axis=-1), np.intp)
    level, rms, centre, seen = _of_sorted(np.sort(cells[:, ::_PART], axis=-1))
    _refine(cells, centre, level, rms)
    return level, rms, np.where(seen > 0, filled, 0)


def _refine(cells: Pixels, centre: Float, level: Float, rms: Float) -> None:
    """Replace level and noise of a part of the cells by those of all their samples.

    One step of Newton's method each: of the noise towards that which its own clipping returns, of the median by how
    many samples are below the old one.
    """
    height = max(1, _BLOCK // cells.shape[1])
    for low in range(0, len(cells), height):
        part = slice(low, low + height)
        middle, width = centre[part].astype(np.float32)[:, None], rms[part].astype(np.float32)[:, None]
        with np.errstate(all="ignore"):
            z = (cells[part] - middle) / width
            _, mean, square = _clipped(z, _CLIP_RMS)
            step = (_UNCUT * np.sqrt(square - mean * mean) - 1) / (1 - _SLOPE)
            number, mean, _ = _clipped(z, _CLIP_LEVEL)
            below = ((z < 0) & (z >= -_CLIP_LEVEL)).sum(axis=-1)
            median = (0.5 - below / number) * sqrt(2 * pi)
            found = middle[:, 0] + width[:, 0] * (2.5 * median - 1.5 * mean)
            # Not of constant cells, nor of those without a number: z is none.
            good = np.isfinite(step) & np.isfinite(found)
        level[part] = np.where(good, found, level[part])
        rms[part] *= np.where(good, 1 + step.clip(-0.5, 0.5), 1.0)


def _clipped(z: Pixels, most: float) -> tuple[Float, Float, Float]:
    """Return how many of a row are within a distance of 0, and the means of these and of their squares."""
    within = np.abs(z) <= most
    kept = np.where(within, z, np.float32(0))
    number = within.sum(axis=-1)
    return number, kept.sum(axis=-1) / number, np.einsum("ij,ij->i", kept, kept) / number


def _of_sorted(cells: Pixels) -> tuple[Float, Float, Float, Index]:
    """Return level, noise, median and number of samples of sorted cells (n, m), NaN last.

    The noise is clipped about the median, beginning with the width of the lower half: sources only add, so that half is
    nearly free of them. The level is the mode, 2.5 median - 1.5 mean (Bertin & Arnouts 1996, for crowded fields).
    """
    filled = cells.shape[1] - np.isnan(cells).sum(axis=-1) if np.isnan(cells[:, -1]).any() else None
    # Of sorted numbers every third has the same quantiles, means and deviations.
    thin = _THIN if cells.shape[1] > _FEWEST_RANKS * _THIN else 1
    search = _Search(cells[:, thin // 2 :: thin])
    count = search.count
    centre = search.median(np.zeros_like(count), count)
    rms = centre - search.at((_ONE_SIGMA_BELOW * count).astype(np.intp))
    for _ in range(_ITERATIONS):
        low, high = search.within(centre, _CLIP_RMS * rms)
        _, deviation = search.moments(low, high)
        centre = search.median(low, high)
        rms = np.minimum(_UNCUT * deviation, 1.5 * rms)
    low, high = search.within(centre, _CLIP_LEVEL * rms)
    mean, _ = search.moments(low, high)
    if filled is None:
        filled = np.full(len(cells), cells.shape[1])
    return 2.5 * search.median(low, high) - 1.5 * mean, rms, centre, filled


class _Search:
    """Ranks, medians and moments of ranges of sorted rows; `count` (n,) is how many of a row are numbers."""

    def __init__(self, cells: Pixels) -> None:
        self._row = np.arange(len(cells))
        self._flat, self._begin = cells.ravel(), self._row * cells.shape[1]
        absent = np.isnan(cells)
        self.count = np.asarray(cells.shape[1] - absent.sum(axis=-1), np.intp)
        self._last = np.maximum(self.count - 1, 0)
        # About the middle, so that a high background does not eat the digits of the squares.
        self._middle = self.at(self.count // 2)
        shifted = np.where(absent, 0.0, cells - self._middle[:, None])
        self._sums = np.zeros((2, len(cells), cells.shape[1] + 1))
        np.cumsum(shifted, axis=-1, out=self._sums[0, :, 1:])
        np.cumsum(shifted * shifted, axis=-1, out=self._sums[1, :, 1:])

    def at(self, rank: Index) -> Float:
        """Return the values of a rank; of the last of a row beyond it."""
        return np.asarray(self._flat.take(self._begin + np.minimum(rank, self._last)), np.float64)

    def median(self, low: Index, high: Index) -> Float:
        """Return the medians of ranges of ranks."""
        return (self.at((low + high - 1) // 2) + self.at((low + high) // 2)) / 2

    def moments(self, low: Index, high: Index) -> tuple[Float, Float]:
        """Return means and standard deviations of ranges of ranks."""
        number = np.maximum(high - low, 1)
        mean, square = (self._sums[:, self._row, high] - self._sums[:, self._row, low]) / number
        return self._middle + mean, np.sqrt(np.maximum(square - mean * mean, 0.0))

    def within(self, centre: Float, reach: Float) -> tuple[Index, Index]:
        """Return the ranges of ranks within a distance of the centres."""
        low, high = self._below(np.stack([centre - reach, np.nextafter(centre + reach, np.inf)]))
        return low, high

    def _below(self, value: Float) -> Index:
        """Return how many numbers of each row lie below values (k, n): a search by halves, in all rows at once."""
        found = np.zeros(value.shape, np.intp)
        for bit in range(int(self.count.max(initial=0)).bit_length() - 1, -1, -1):
            probe = found + (1 << bit)
            there = self._flat.take(self._begin + np.minimum(probe - 1, self._last))
            found += ((there < value) & (probe <= self.count)).astype(np.intp) << bit
        return found


def _along_x(values: Pixels, axis: Axis, *, cut: bool) -> Pixels:
    one, other = axis.weights(cut=cut).T
    return np.asarray(values[:, axis.before] * one + values[:, axis.after] * other, np.float32)
