"""The rules: small functions on columns, with their thresholds as arguments."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.integer[Any]]


class NewSources(NamedTuple):
    """Per new object: whether it may be new to the sky, whether it must be, and by how much."""

    possible: Bool
    certain: Bool
    significance: Float


def new_source(
    flux_peak: Float, flux_peak_err: Float, limit_low: Float, limit_high: Float, n_earlier: Whole, *, warm_up: int
) -> NewSources:
    """Judge new objects against the best earlier image that covered them.

    Parameters
    ----------
    flux_peak, flux_peak_err
        Peak flux and its 1-sigma error.
    limit_low, limit_high
        Fluxes above which the earlier image may have shown the object, and must have shown it; NaN when there is none.
    n_earlier
        Number of earlier images that covered the position.
    warm_up
        Number that it takes.

    Returns
    -------
    NewSources
        `significance` is (flux_peak - limit_low) / flux_peak_err, certain or not; NaN when the error is unknown.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        possible = (n_earlier >= warm_up) & (flux_peak > limit_low)
        significance = np.where(flux_peak_err > 0, (flux_peak - limit_low) / flux_peak_err, np.nan)
        return NewSources(possible, possible & (flux_peak > limit_high), significance)


class Deviations(NamedTuple):
    """Per point: how far it is above the mean, whether that is judged at all, and whether it is too far."""

    sigmas: Float
    judged: Bool
    above: Bool


class Thresholds(NamedTuple):
    """What makes a flare: how many sigma, of what uncertainty, after how many points."""

    sigma: float
    flux_sys_frac: float
    min_points: int


def flare(
    flux: Float, flux_err: Float, mean: Float, mean_err: Float, n_before: Whole, thresholds: Thresholds
) -> Deviations:
    """Judge points against the weighted mean of their object before them.

    Parameters
    ----------
    flux, flux_err
        Integrated flux and its 1-sigma error.
    mean, mean_err
        Weighted mean of the earlier points of the object in the band, and its error.
    n_before
        Number of those points.
    thresholds
        On (flux - mean) / sqrt(flux_err^2 + mean_err^2 + (flux_sys_frac mean)^2), and on the number of points.
    """
    total = np.sqrt(flux_err**2 + mean_err**2 + (thresholds.flux_sys_frac * mean) ** 2)
    judged = (n_before >= thresholds.min_points) & (total > 0)
    sigmas = np.divide(flux - mean, total, out=np.zeros_like(total), where=judged)
    return Deviations(sigmas, judged, judged & (sigmas > thresholds.sigma))
