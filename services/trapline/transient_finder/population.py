"""What is usual in the population: log-normal fits to V and eta of all objects of a band, kept as the night goes.

Both are kept as histograms of their logarithm, so that a point of an object costs the same however many there are: the
object moves from one bin to another.
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
    """Return the Gaussian of a histogram over the logarithm: mean and standard deviation, clipped until they stand."""
    total = int(counts.sum())
    if not total:
        return Fit(np.nan, np.nan)
    x = np.log10(CENTRES)
    kept = counts > 0
    mean, sigma = 0.0, 0.0
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
    return np.zeros(N_BINS, np.int64)


def _counts(bins: Bins) -> Counts:
    return np.bincount(bins, minlength=N_BINS + 1)[1:]


@dataclass(slots=True)
class Population:
    """How many objects of a band have which V and eta."""

    v: Counts = field(default_factory=_none)
    eta: Counts = field(default_factory=_none)

    def __len__(self) -> int:
        return int(self.v.sum())

    def add(self, v_bins: Bins, eta_bins: Bins) -> None:
        """Count objects."""
        self.v += _counts(v_bins)
        self.eta += _counts(eta_bins)

    def remove(self, v_bins: Bins, eta_bins: Bins) -> None:
        """Count objects no more."""
        self.v -= _counts(v_bins)
        self.eta -= _counts(eta_bins)

    def fits(self) -> tuple[Fit, Fit]:
        """Return the fits to V and to eta."""
        return fit(self.v), fit(self.eta)
