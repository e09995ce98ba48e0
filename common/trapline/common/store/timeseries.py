"""A lightcurve as an astropy `TimeSeries`: what a row is and what it is not is marked beside the flux."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table
from astropy.timeseries import TimeSeries

from trapline.common.ids import text_id
from trapline.common.store.columns import Array, text_ids
from trapline.common.store.history import History
from trapline.common.store.series import Lightcurve
from trapline.common.store.tables import flux_unit, time_of
from trapline.schemas.columns import Kind

LIMIT_SIGMA = 3.0
GAP_STEPS = 5.0

_KINDS = np.array([kind.name.lower() for kind in Kind])
_FLUXES = ("flux_int", "flux_int_err", "flux_peak", "flux_peak_err", "flux_min", "flux_max")
_MEASURED = ("snr", "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "deruiter", "n", "v", "eta", "flags")
_PLAIN = ("width_s", "n_points", "n_forced", "chi2", *_MEASURED)
_IDS = ("object", "image", "source", "point")
_DESCRIPTIONS: Mapping[str, str] = {
    "time": "start of the image, UTC",
    "band": "name of the band",
    "flux_int": "integrated flux density; NaN when not measured",
    "flux_peak": "peak flux density per beam; NaN when not measured",
    "kind": "blind (detected), forced (at a known object), monitored, backfill (forced back in time)",
    "forced": "measured because the position was known: the flux may be noise",
    "is_limit": f"forced, and below {LIMIT_SIGMA:g} sigma: plot upper_limit in place of the flux",
    "upper_limit": f"the larger of 0 and the flux, plus {LIMIT_SIGMA:g} sigma; NaN where is_limit is false",
    "width_s": "length of the bin of which this is the weighted mean; 0 for a point as measured",
    "n_points": "points in the bin",
    "n_forced": "forced ones among them",
    "flux_min": "smallest integrated flux in the bin",
    "flux_max": "largest integrated flux in the bin",
    "chi2": "of the points in the bin against their mean; n_points - 1 is expected of a steady source",
    "gap": f"before this row the band was not measured for more than {GAP_STEPS:g} of its usual time steps",
    "began": "the detection with which the object began, or its part of one that was split",
    "inherited": "measured as an ancestor of this object, before that was split",
    "snr": "peak flux over the local noise",
    "deruiter": "de Ruiter radius to the object before this point; NaN for a new or forced one",
    "n": "points of the object in this band after this one",
    "v": "coefficient of variation of the object in this band after this point",
    "eta": "reduced chi^2 of the object in this band after this point",
    "flags": "bits, as trapline.schemas.columns.Flag",
}


def time_series(curve: Lightcurve) -> Any:
    """Return a lightcurve as a `TimeSeries`, in the order of time.

    Fluxes are quantities where all bands share a unit; else they are numbers and the column `unit` says of what.
    """
    columns = curve.columns
    series: Any = TimeSeries(time=time_of(columns["t"]))
    units = np.array([unit or "" for unit in curve.units], str)[columns["band"]]
    shared = flux_unit(units[0]) if len(units) and (units == units[0]).all() else None
    forced = columns["kind"] != Kind.BLIND
    limits = upper_limits(columns["flux_int"], columns["flux_int_err"], forced)
    series["band"] = np.array(curve.bands, str)[columns["band"]]
    for name in _FLUXES:
        series[name] = Column(columns[name], unit=shared)
    if shared is None:
        series["unit"] = units
    series["kind"] = _KINDS[columns["kind"]]
    series["forced"] = forced
    series["is_limit"], series["upper_limit"] = np.isfinite(limits), Column(limits, unit=shared)
    series["gap"] = gaps(columns["t"], columns["band"])
    own = np.frombuffer(curve.object_id, np.uint8)
    series["inherited"] = (columns["object"] != own).any(axis=1)
    for name in _PLAIN:
        series[name] = Column(columns[name], unit=_unit(name))
    for name in _IDS:
        series[name] = text_ids(columns[name])
    _describe(series)
    series.meta["object"] = text_id(curve.object_id)
    return series


def _unit(name: str) -> str | None:
    return next((unit for end, unit in (("_deg", "deg"), ("_s", "s")) if name.endswith(end)), None)


def history_table(found: History) -> Any:
    """Return the versions of objects as a `Table`; `began` marks the detection that began each of them."""
    columns = found.columns
    table: Any = Table({"object": text_ids(columns["wanted"]), "t": time_of(columns["t"])})
    table["band"] = np.array(found.bands, str)[columns["band"]]
    table["kind"], table["began"] = _KINDS[columns["kind"]], found.began
    table["inherited"] = (columns["object"] != columns["wanted"]).any(axis=1)
    for name in ("flux_int", "flux_int_err", "flux_peak", "flux_peak_err", *_MEASURED):
        table[name] = Column(columns[name], unit=_unit(name))
    for name in ("image", "source", "point"):
        table[name] = text_ids(columns[name])
    _describe(table)
    return table


def upper_limits(flux: Array, error: Array, forced: Array) -> npt.NDArray[np.float64]:
    """Return upper limits of forced measurements that are no detections, and NaN elsewhere.

    The noise of a measurement at a known position may be negative; a source may not: the limit is
    max(flux, 0) + `LIMIT_SIGMA` error.
    """
    with np.errstate(invalid="ignore"):
        is_limit = forced & (flux < LIMIT_SIGMA * error)
        limit: npt.NDArray[np.float64] = np.where(is_limit, np.maximum(flux, 0) + LIMIT_SIGMA * error, np.nan)
    return limit


def gaps(t_us: Array, band: Array) -> npt.NDArray[np.bool_]:
    """Return before which rows, (n,) in the order of time, their band was not measured for long.

    Long is more than `GAP_STEPS` times the median step of the band. The first row of a band has no gap before it.
    """
    found = np.zeros(len(t_us), bool)
    for number in np.unique(band):
        rows = np.flatnonzero(band == number)
        steps = np.diff(t_us[rows])
        if len(steps):
            found[rows[1:]] = steps > GAP_STEPS * np.median(steps)
    return found


def _describe(series: Any) -> None:
    for name, text in _DESCRIPTIONS.items():
        if name in series.colnames:
            series[name].info.description = text
