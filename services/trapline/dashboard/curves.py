"""Lightcurves as columns for a plot, thinned to what a screen can show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.store.lightcurve import Point
from trapline.dashboard.rendering import as_us

Float = npt.NDArray[np.float64]


def curves_of(points: Sequence[Point], most: int, since_s: float, until_s: float) -> list[dict[str, Any]]:
    """Return a dictionary of columns per band.

    Parameters
    ----------
    points
        Of an object, in the order of time.
    most
        Points per band; more are replaced by weighted means of neighbours.
    since_s, until_s
        Stretch of time that is wanted, s since 1970-01-01 UTC.
    """
    bands: dict[str, list[Point]] = {}
    for point in points:
        bands.setdefault(point.band, []).append(point)
    return [_curve(name, some, most, since_s, until_s) for name, some in sorted(bands.items())]


def _curve(name: str, points: Sequence[Point], most: int, since_s: float, until_s: float) -> dict[str, Any]:
    t = np.array([as_us(p.t) for p in points], np.float64) / 1e6
    columns = {
        "t": t,
        "flux": np.array([p.flux_int for p in points]),
        "err": np.array([p.flux_int_err for p in points]),
        "kind": np.array([p.kind for p in points], np.float64),
    }
    inside = (t >= since_s) & (t <= until_s)
    columns = {key: column[inside] for key, column in columns.items()}
    step = 1
    if most > 0 and len(columns["t"]) > most:
        step = -(-len(columns["t"]) // most)
        columns = thinned(columns, step)
    unit = next((p.unit for p in points if p.unit), "")
    plain = {key: [None if v != v else v for v in column.tolist()] for key, column in columns.items()}  # noqa: PLR0124
    return {"name": name, "unit": unit, "points": len(points), "shown": len(columns["t"]), "mean_of": step, **plain}


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
