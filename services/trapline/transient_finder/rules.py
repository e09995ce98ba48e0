"""The rules: small functions on columns, with their thresholds beside them. A rule of a user has the same form.

A rule is called with the columns of some points, no two of one object and band, and its thresholds, and says of which
points it holds. It keeps nothing: that an event is announced once per episode is seen to elsewhere. The columns are
those of `lightcurves`, and what the finder remembers of the object in the band:

- `mean`, `mean_err`, `n_before`: weighted mean of the points before, its error, their number (0 without any); a point
  that flares or fades enters this mean as if it were just at the threshold
- `n_now`, `v_now`, `eta_now`: number, coefficient of variation and reduced chi^2 with this point
- `v_threshold`, `eta_threshold`: what is unusual in the population
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Columns = Mapping[str, npt.NDArray[Any]]
Thresholds = Mapping[str, float]


class Verdict(NamedTuple):
    """Per point: whether the rule holds, and by how much, in sigma (NaN: not known)."""

    holds: Bool
    significance: Float
    judged: Bool | None = None
    """points that it could decide on; the others leave an open episode as it is. None: all"""


Judge = Callable[[Columns, Thresholds], Verdict]


class Rule(NamedTuple):
    """A function with its thresholds, and which columns go with an event as the reason."""

    kind: str
    judge: Judge
    thresholds: Thresholds
    reports: tuple[str, ...] = ()
    retracts: bool = False
    """whether an event is taken back when the rule holds no more, instead of having ended"""


def rule(
    kind: str, *, reports: tuple[str, ...] = (), retracts: bool = False, **thresholds: float
) -> Callable[[Judge], Rule]:
    """Make a rule of a function: what a plug-in file decorates its own with.

    Parameters
    ----------
    kind
        Of its events.
    reports
        Columns whose values go with an event.
    retracts
        Whether an event is taken back when the rule holds no more.
    thresholds
        By name, with their defaults.
    """

    def decorate(judge: Judge) -> Rule:
        return Rule(kind, judge, {name: float(value) for name, value in thresholds.items()}, reports, retracts)

    return decorate


def new_source(points: Columns, thresholds: Thresholds) -> Verdict:
    """Judge new objects against the best of `n_earlier` images that covered them before.

    `flux_peak` above `limit_low` makes a new source possible, above `limit_high` certain: the earlier image may have
    shown it, and must have shown it. The significance is (flux_peak - limit_low) / flux_peak_err in both cases; NaN
    when the error is not known. Limits are NaN when there is no earlier image.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        possible = (points["n_earlier"] >= thresholds["warm_up"]) & (points["flux_peak"] > points["limit_low"])
        above = (points["flux_peak"] - points["limit_low"]) / points["flux_peak_err"]
        return Verdict(possible, np.where(points["flux_peak_err"] > 0, above, np.nan))


def flare(points: Columns, thresholds: Thresholds) -> Verdict:
    """Judge points against the weighted mean of their object before them.

    Holds when (flux_int - mean) / sqrt(flux_int_err^2 + mean_err^2 + (flux_sys_frac mean)^2) exceeds `sigma`, and the
    mean is that of at least `min_points` points. One that goes on has ended below `hysteresis` times `sigma`: else a
    flux that stays near the threshold would be many flares.
    """
    sigmas, _, judged = _deviation(points, thresholds)
    return _beyond(sigmas, judged, thresholds)


def fade(points: Columns, thresholds: Thresholds) -> Verdict:
    """Judge as `flare` does, in the other direction; the significance is positive."""
    sigmas, _, judged = _deviation(points, thresholds)
    return _beyond(-sigmas, judged, thresholds)


def _beyond(sigmas: Float, judged: Bool, thresholds: Thresholds) -> Verdict:
    holds = judged & (sigmas > thresholds["sigma"])
    ended = sigmas < thresholds["hysteresis"] * thresholds["sigma"]
    return Verdict(holds, sigmas, judged & (holds | ended))


def reach(points: Columns, thresholds: Thresholds) -> Float:
    """Return how far from the mean a point may be that neither flares nor fades; infinite where none is judged."""
    _, total, judged = _deviation(points, thresholds)
    return np.where(judged, thresholds["sigma"] * total, np.inf)


def _deviation(points: Columns, thresholds: Thresholds) -> tuple[Float, Float, Bool]:
    mean = points["mean"]
    total = np.sqrt(points["flux_int_err"] ** 2 + points["mean_err"] ** 2 + (thresholds["flux_sys_frac"] * mean) ** 2)
    judged = (points["n_before"] >= thresholds["min_points"]) & (total > 0)
    return np.divide(points["flux_int"] - mean, total, out=np.zeros_like(total), where=judged), total, judged


def variable(points: Columns, thresholds: Thresholds) -> Verdict:
    """Judge whether both V and eta are beyond what is usual.

    The significance is that of eta as a reduced chi^2 of n - 1 degrees of freedom, (eta - 1) sqrt((n - 1) / 2). An
    object that was variable is taken to be steady again once V or eta is below `hysteresis` times its threshold.
    """
    v, eta, n = points["v_now"], points["eta_now"], points["n_now"]
    v_limit, eta_limit = points["v_threshold"], points["eta_threshold"]
    enough = n >= thresholds["min_points"]
    with np.errstate(invalid="ignore"):
        holds = enough & (v > v_limit) & (eta > eta_limit)
        steady = (v < thresholds["hysteresis"] * v_limit) | (eta < thresholds["hysteresis"] * eta_limit)
    return Verdict(holds, (eta - 1) * np.sqrt(np.maximum(n - 1.0, 0) / 2), enough & (holds | steady))


def disappeared(pairs: Columns, thresholds: Thresholds) -> Verdict:
    """Judge objects that were not found where they were looked for.

    Holds when `misses` reaches its threshold and the brightest blind point of the band, `brightest`, is above
    `missed_limit`: what each of the images that missed it must have shown. The significance is by how many errors of
    that point.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        above = (pairs["brightest"] - pairs["missed_limit"]) / pairs["brightest_err"]
        holds = (pairs["misses"] >= thresholds["misses"]) & (pairs["brightest"] > pairs["missed_limit"])
        return Verdict(holds, np.where(pairs["brightest_err"] > 0, above, np.nan))


def returned(points: Columns, thresholds: Thresholds) -> Verdict:  # noqa: ARG001  every rule has this form
    """Judge blind matches of objects that had disappeared: it holds of each; the significance is that of the peak."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sigmas = np.where(points["flux_peak_err"] > 0, points["flux_peak"] / points["flux_peak_err"], np.nan)
    return Verdict(np.ones(len(sigmas), bool), sigmas)
