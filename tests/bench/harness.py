"""Measuring something of ours against a baseline in the same run, and judging the ratio.

Both are measured in interleaved pairs, the first of a pair alternating: what changes on the machine meanwhile hits
both. The result is the ratio of the medians. Its 90 % interval is a bootstrap: pairs are drawn with replacement, whole,
because the two of a pair share the machine's mood; of the ratios of medians of many such draws the 5th and the 95th
percentile are the interval. A target is met when the interval reaches it: noise alone fails no target, and a run with
more pairs is judged more strictly.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

Size = Literal["small", "full"]
Float = npt.NDArray[np.float64]
Note = str | float

CONFIDENCE = 0.9
_DRAWS = 4000


class InvalidRunError(RuntimeError):
    """What was measured is not what should be compared. The text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of the ratio ours / baseline; `allowance`, in the unit of both, is taken off ours before."""

    sense: Literal[">=", "<="]
    ratio: float
    allowance: float = 0.0

    def reached_by(self, interval: tuple[float, float]) -> bool:
        """Return whether an interval of the ratio reaches the bound."""
        low, high = interval
        return high >= self.ratio if self.sense == ">=" else low <= self.ratio

    def missed_by(self, ratio: float) -> float:
        """Return by which factor a ratio misses the bound; below 1 it does not."""
        if ratio <= 0:
            return math.inf if self.sense == ">=" else 0.0
        return self.ratio / ratio if self.sense == ">=" else ratio / self.ratio


@dataclass(frozen=True, slots=True)
class Comparison:
    """Values of ours and of the baseline, pair by pair, in one unit; `notes` are reported, not judged."""

    case: str
    unit: str
    ours: Sequence[float]
    baseline: Sequence[float]
    target: Target | None = None
    notes: Mapping[str, Note] = field(default_factory=dict[str, Note])

    def judged(self) -> Judgement:
        """Return the ratio of the medians, its interval, and whether the target is met (None: there is none)."""
        allowance = self.target.allowance if self.target else 0.0
        ours, baseline = np.asarray(self.ours, float) - allowance, np.asarray(self.baseline, float)
        ratio, interval = ratio_of_medians(ours, baseline)
        met = None if self.target is None else self.target.reached_by(interval)
        return Judgement(float(np.median(self.ours)), float(np.median(baseline)), ratio, interval, met)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Medians, the ratio of ours (without its allowance) to the baseline, its interval, and the verdict."""

    ours: float
    baseline: float
    ratio: float
    interval: tuple[float, float]
    met: bool | None


def ratio_of_medians(ours: Float, baseline: Float, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return the ratio of the medians of n pairs, and its 90 % interval by bootstrap over pairs.

    Raises
    ------
    InvalidRunError
        When there are no pairs, or a value is not a positive number where one is divided by it.
    """
    if len(ours) != len(baseline) or not len(ours):
        raise InvalidRunError(f"{len(ours)} values of ours and {len(baseline)} of the baseline are no pairs")
    if not (np.isfinite(ours).all() and np.isfinite(baseline).all() and (baseline > 0).all()):
        raise InvalidRunError("values must be finite, and those of the baseline positive")
    drawn = np.random.default_rng(seed).integers(0, len(ours), (_DRAWS, len(ours)))
    ratios = np.median(ours[drawn], axis=1) / np.median(baseline[drawn], axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(np.median(ours) / np.median(baseline)), (float(low), float(high))


def in_pairs(
    ours: Callable[[], float], baseline: Callable[[], float], pairs: int, *, warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Return what both measured, pair by pair; `warm_up` pairs before are thrown away."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in watched(range(warm_up + pairs)):
        order = (0, 1) if number % 2 else (1, 0)
        values = {which: (ours, baseline)[which]() for which in order}
        if number >= warm_up:
            found[0].append(values[0])
            found[1].append(values[1])
    return found


def seconds_of(work: Callable[[], Any], repeat: int = 1, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the time of one call, as the mean of some, without the collector of cycles."""
    gc.disable()
    try:
        start = clock()
        for _ in range(repeat):
            work()
        return (clock() - start) / repeat
    finally:
        gc.enable()


def watched(steps: Sequence[int] | range) -> Any:
    """Return the steps, with a progress bar when a person watches."""
    console = Console(stderr=True)
    return track(steps, "", console=console, transient=True) if sys.stderr.isatty() else steps


def percentile(values: Sequence[float], q: float) -> float:
    """Return a percentile of values."""
    return float(np.percentile(np.asarray(values, float), q))
