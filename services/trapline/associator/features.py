"""Statistics of the newest points of each object: functions on columns, by name, and how to add one's own.

A feature is a function that gets a `Series` (k objects of n points each) and returns columns of k numbers by name, NaN
where they mean nothing. `[associator] features` names those to compute: of this module, or ``package.module:function``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from trapline.associator.history import History, Series
from trapline.common.named import function_named

Float = npt.NDArray[np.float64]
Feature = Callable[[Series], Mapping[str, Float]]

_FEATURES: dict[str, Feature] = {}
_DAY_US = 86_400e6
_PAIRS_AT_ONCE = 1 << 21


def register(feature: Feature) -> Feature:
    """Make a feature known under the name of its function."""
    _FEATURES[feature.__name__] = feature
    return feature


def feature_named(name: str) -> Feature:
    """Return a feature.

    Raises
    ------
    ValueError
        When there is none. The text says which there are.
    """
    return function_named("feature", name, _FEATURES)


def features_of(history: History, objects: npt.NDArray[np.intp], names: Iterable[str]) -> dict[str, Float]:
    """Return the columns of features of objects, NaN where an object has no points."""
    columns: dict[str, Float] = {}
    chosen = [feature_named(name) for name in names]
    for which, series in history.series(objects):
        for feature in chosen:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found = feature(series)
            for name, values in found.items():
                columns.setdefault(name, np.full(len(objects), np.nan))[which] = values
    return columns


@register
def moments(series: Series) -> Mapping[str, Float]:
    """Return weighted mean and its error, standard deviation, and skewness (G1 of Joanes & Gill 1998)."""
    weight = series.flux_err**-2.0
    n = series.flux.shape[1]
    offset = series.flux - series.flux.mean(axis=1, keepdims=True)
    m2, m3 = (offset**2).mean(axis=1), (offset**3).mean(axis=1)
    spread = m2 > 0
    skewness = np.full(len(m2), np.nan)
    if n > 2:
        skewness[spread] = m3[spread] / m2[spread] ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    return {
        "weighted_mean": _weighted_mean(series),
        "weighted_mean_err": weight.sum(axis=1) ** -0.5,
        "std": np.sqrt(m2 * n / (n - 1)) if n > 1 else np.zeros(len(m2)),
        "skewness": skewness,
    }


@register
def ranks(series: Series) -> Mapping[str, Float]:
    """Return min, max, median, percentiles (linear between points), and the median absolute deviation."""
    names = ("min", "percentile_5", "percentile_25", "median", "percentile_75", "percentile_95", "max")
    values = np.percentile(series.flux, (0, 5, 25, 50, 75, 95, 100), axis=1)
    mad = np.median(np.abs(series.flux - values[3][:, None]), axis=1)
    return {**dict(zip(names, values, strict=True)), "mad": mad}


@register
def scatter(series: Series) -> Mapping[str, Float]:
    """Return chi^2 against the weighted mean, and Stetson's J of single points (1996, PASP 108, 851, with w = 1)."""
    n = series.flux.shape[1]
    residual = (series.flux - _weighted_mean(series)[:, None]) / series.flux_err
    stetson = np.full(len(residual), np.nan)
    if n > 1:
        pair = residual**2 * (n / (n - 1)) - 1
        stetson = (np.sign(pair) * np.sqrt(np.abs(pair))).mean(axis=1)
    return {"chi2": (residual**2).sum(axis=1), "stetson_j": stetson}


@register
def slopes(series: Series) -> Mapping[str, Float]:
    """Return the weighted linear slope, and the largest one between neighbours in time, in flux per day."""
    days = (series.t_us - series.t_us[:, :1]) / _DAY_US
    weight = series.flux_err**-2.0
    days = days - (weight * days).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    offset = series.flux - _weighted_mean(series)[:, None]
    across = (weight * days**2).sum(axis=1)
    slope = np.where(across > 0, (weight * days * offset).sum(axis=1) / across, np.nan)
    steepest = np.full(len(slope), np.nan)
    if series.flux.shape[1] > 1:
        step = np.diff(series.t_us, axis=1) / _DAY_US
        steps = np.where(step > 0, np.abs(np.diff(series.flux, axis=1)) / step, -np.inf)
        steepest = np.where((step > 0).any(axis=1), steps.max(axis=1), np.nan)
    return {"slope": slope, "slope_max": steepest}


@register
def two_epoch(series: Series) -> Mapping[str, Float]:
    """Return Vs and m of the most significant pair of points, the later less the earlier (Mooley et al. 2016).

    Vs = (S2 - S1) / sqrt(e1^2 + e2^2) and m = 2 (S2 - S1) / (S2 + S1); a variable has |Vs| >= 4.3 and |m| > 0.26.
    """
    k, n = series.flux.shape
    vs, m = np.full((2, k), np.nan)
    earlier, later = np.triu_indices(n, 1)
    for start in range(0, k if n > 1 else 0, size := max(1, _PAIRS_AT_ONCE // max(len(earlier), 1))):
        flux, error = series.flux[start : start + size], series.flux_err[start : start + size]
        change = flux[:, later] - flux[:, earlier]
        significance = change / np.hypot(error[:, later], error[:, earlier])
        best = np.abs(significance).argmax(axis=1)
        row = np.arange(len(best))
        vs[start : start + size] = significance[row, best]
        m[start : start + size] = 2 * change[row, best] / (flux[row, later[best]] + flux[row, earlier[best]])
    return {"vs": vs, "m": m}


@register
def times(series: Series) -> Mapping[str, Float]:
    """Return the first and last time of the points kept, in seconds since 1970-01-01 UTC."""
    return {"first_s": series.t_us[:, 0] / 1e6, "last_s": series.t_us[:, -1] / 1e6}


def _weighted_mean(series: Series) -> Float:
    """Return the mean weighted by 1 / error^2, relative to the first point so that a bright source keeps its digits."""
    weight, first = series.flux_err**-2.0, series.flux[:, :1]
    mean: Float = first[:, 0] + (weight * (series.flux - first)).sum(axis=1) / weight.sum(axis=1)
    return mean
