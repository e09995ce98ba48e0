"""What is usual in the population: log-normal fits to V and eta of all objects of a band, kept as the night goes.

Both are kept as a histogram of their logarithms, so that a point of an object costs the same however many there are:
the object moves from one bin to another. V is that of the objects whose eta is usual: it depends on how bright a steady
object is, so that its distribution is wide, and variables would hide in its tail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bins = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

_LOW, _HIGH = -4.0, 6.0  # of log10
N_BINS = 251
"""and bin 0, for objects that are not counted"""
_WIDTH = (_HIGH - _LOW) / N_BINS
_CLIP_SIGMA = 3.0
_ROUNDS = 10
_ONE_SIGMA_BELOW = 0.15866  # of a Gaussian
_USUAL_SIGMA = 3.0  # eta up to here is usual

CENTRES: Float = np.power(10.0, _LOW + _WIDTH * (np.arange(N_BINS, dtype=np.float64) + 0.5))
"""of the bins"""


class Fit(NamedTuple):
    """A Gaussian in log10 of a quantity, clipped at 3 sigma; NaN without objects."""

    mean: float
    sigma: float

    def threshold(self, sigmas: float) -> float:
        """Return the value that is so many sigma above the mean."""
        return float(10.0 ** (self.mean + sigmas * self.sigma))


def bins_of(values: Float, counted: npt.NDArray[np.bool_]) -> Bins:
    """Return the bin of each value plus one, 0 where it is not counted or not a number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        position = (np.log10(values) - _LOW) / _WIDTH
    usable = counted & np.isfinite(position)
    inside = np.clip(np.where(usable, position, 0.0), 0, N_BINS - 1)
    return np.where(usable, inside.astype(np.uint8) + 1, 0).astype(np.uint8)


def fit(counts: Counts) -> Fit:
    """Return the Gaussian of a histogram over the logarithm: mean and standard deviation, clipped until they stand.

    The clipping begins with the width of the lower half: variables only add to the upper one, and may be many.
    """
    total = int(counts.sum())
    if not total:
        return Fit(np.nan, np.nan)
    x = np.log10(CENTRES)
    median, low = (float(x[np.searchsorted(np.cumsum(counts), part * total)]) for part in (0.5, _ONE_SIGMA_BELOW))
    mean, sigma = median, max(median - low, _WIDTH / 2)
    kept = (counts > 0) & (np.abs(x - mean) <= _CLIP_SIGMA * sigma)
    for _ in range(_ROUNDS):
        weight = np.where(kept, counts, 0)
        mean = float((weight * x).sum() / weight.sum())
        # A population narrower than a bin has the width that a bin gives it.
        sigma = max(float(np.sqrt((weight * (x - mean) ** 2).sum() / weight.sum())), _WIDTH / 2)
        again = (counts > 0) & (np.abs(x - mean) <= _CLIP_SIGMA * sigma)
        if (again == kept).all():
            break
        kept = again
    return Fit(mean, sigma)


def _none() -> Counts:
    return np.zeros((N_BINS + 1, N_BINS + 1), np.int64)


@dataclass(slots=True)
class Population:
    """How many objects of a band have which V and eta: by bins plus one (n, n), 0 where there is none."""

    counts: Counts = field(default_factory=_none)

    def __len__(self) -> int:
        return int(self.counts[1:].sum())

    def add(self, v_bins: Bins, eta_bins: Bins) -> None:
        """Count objects."""
        np.add.at(self.counts, (v_bins, eta_bins), 1)

    def remove(self, v_bins: Bins, eta_bins: Bins) -> None:
        """Count objects no more."""
        np.subtract.at(self.counts, (v_bins, eta_bins), 1)

    def fits(self) -> tuple[Fit, Fit]:
        """Return the fits to V, of the objects whose eta is usual, and to eta."""
        eta = fit(self.counts[:, 1:].sum(axis=0))
        usual = np.append(True, ~(eta.threshold(_USUAL_SIGMA) < CENTRES))
        return fit(self.counts[1:, usual].sum(axis=1)), eta
