"""Lightcurves as columns for a plot, thinned to what a screen can show."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.store.series import Lightcurve

Float = npt.NDArray[np.float64]


def curves_of(curve: Lightcurve, most: int, since_s: float, until_s: float) -> list[dict[str, Any]]:
    """Return a dictionary of columns per band.

    Parameters
    ----------
    curve
        Of an object.
    most
        Points per band; more are replaced by weighted means of neighbours.
    since_s, until_s
        Stretch of time that is wanted, s since 1970-01-01 UTC.
    """
    bands = curve.columns["band"]
    return [
        _curve(curve, number, most, since_s, until_s) for number in range(len(curve.bands)) if (bands == number).any()
    ]


def _curve(curve: Lightcurve, band: int, most: int, since_s: float, until_s: float) -> dict[str, Any]:
    own = curve.columns["band"] == band
    names = {"t": "t", "flux": "flux_int", "err": "flux_int_err", "kind": "kind"}
    columns = {key: curve.columns[name][own].astype(np.float64) for key, name in names.items()}
    columns["t"] /= 1e6
    points = len(columns["t"])
    width_s = float(curve.columns["width_s"][own].max(initial=0))
    inside = (columns["t"] >= since_s) & (columns["t"] <= until_s)
    columns = {key: column[inside] for key, column in columns.items()}
    step = 1
    if most > 0 and len(columns["t"]) > most:
        step = -(-len(columns["t"]) // most)
        columns = thinned(columns, step)
    plain = {key: [None if v != v else v for v in column.tolist()] for key, column in columns.items()}  # noqa: PLR0124
    name, unit = curve.bands[band], curve.units[band] or ""
    shown = {"points": points, "shown": len(columns["t"]), "mean_of": step, "bin_s": width_s}
    return {"name": name, "unit": unit, **shown, **plain}


def thinned(columns: dict[str, Float], step: int) -> dict[str, Float]:
    """Return weighted means (1 / error^2) of runs of `step` neighbouring points, and the errors of these means.

    A run is shown as blind when one of its points is. Points that were not measured do not count.
    """
    starts = np.arange(0, len(columns["t"]), step)
    measured = np.isfinite(columns["flux"]) & (columns["err"] > 0)
    weight = np.where(measured, 1.0 / np.where(measured, columns["err"], 1.0) ** 2, 0.0)
    total = np.add.reduceat(weight, starts)
    flux = np.add.reduceat(np.where(measured, columns["flux"], 0.0) * weight, starts)
    counts = np.diff(np.append(starts, len(columns["t"])))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "t": np.add.reduceat(columns["t"], starts) / counts,
            "flux": np.where(total > 0, flux / total, np.nan),
            "err": np.where(total > 0, total**-0.5, np.nan),
            "kind": np.minimum.reduceat(columns["kind"], starts),
        }
