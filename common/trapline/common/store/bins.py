"""Bins of lightcurves: the weighted mean of the points of an object in a band over a minute, an hour or a day.

A point is a bin of one, and bins are merged as points are: whichever way round, the result is that of all points at
once (Chan, Golub & LeVeque 1983, for weighted sums), to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 UTC, from where the server counts microseconds"""

SECOND_US = 1_000_000
WIDTHS_US: Mapping[str, int] = MappingProxyType(
    {"minute": 60 * SECOND_US, "hour": 3600 * SECOND_US, "day": 86_400 * SECOND_US}
)
"""Widths of the tiers of bins, finest first; a bin begins at a multiple of its width since 1970-01-01 UTC."""

BIN = np.dtype(
    [
        ("high", "u8"), ("low", "u8"), ("band", "i4"), ("t", "i8"), ("n", "i4"), ("n_forced", "i4"), ("weight", "f8"),
        ("flux_mean", "f8"), ("chi2", "f8"), ("flux_min", "f8"), ("flux_max", "f8"),
    ]
)  # fmt: skip
"""Object id in two halves, number of the band, start (microseconds since 1970), points and forced ones among them, sum
of 1 / error^2, mean weighted with it, chi^2 of the points against that mean, extremes."""


def bins_of_points(objects: Rows, band: Any, t_us: Any, flux: Rows, error: Rows, forced: Rows) -> Rows:
    """Return points as bins of one; those without a flux or a usable error are left out.

    Parameters
    ----------
    objects
        Ids, (n, 16) bytes.
    band, t_us
        Of each point, or of all.
    flux, error, forced
        (n,) in one unit, and whether it was asked for.
    """
    rows = np.zeros(len(objects), BIN)
    rows["high"], rows["low"] = halves(objects).T
    rows["band"], rows["t"], rows["n"], rows["n_forced"] = band, t_us, 1, forced
    for name in ("flux_mean", "flux_min", "flux_max"):
        rows[name] = flux
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        rows["weight"] = 1 / np.square(np.asarray(error, float))
    usable = np.isfinite(rows["flux_mean"]) & np.isfinite(rows["weight"]) & (rows["weight"] > 0) & (error > 0)
    chosen: Rows = rows[usable]
    return chosen


STORED_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "object": "id", "t": "t", "flux_mean": "f8", "flux_err": "f8", "flux_min": "f8", "flux_max": "f8", "chi2": "f8",
        "n": "i4", "n_forced": "i4", "band": "i2",
    }
)  # fmt: skip
"""Columns of stored bins, as `read_columns` takes them; `band` is a number."""


def stored_bins(columns: Mapping[str, Rows]) -> Rows:
    """Return bins from their columns in the database."""
    rows = np.zeros(len(columns["t"]), BIN)
    rows["high"], rows["low"] = halves(columns["object"]).T
    rows["weight"] = 1 / np.square(columns["flux_err"])
    for name in ("t", "n", "n_forced", "flux_mean", "flux_min", "flux_max", "chi2", "band"):
        rows[name] = columns[name]
    return rows


def merged(parts: Sequence[Rows], width_us: int) -> Rows:
    """Return bins of a width, of finer ones: sorted by band, object and time, one row each."""
    rows = np.concatenate(parts) if parts else np.zeros(0, BIN)
    if not len(rows):
        return rows
    starts = rows["t"] // width_us * width_us
    order = np.lexsort((starts, rows["low"], rows["high"], rows["band"]))
    rows, starts = rows[order], starts[order]
    new = np.ones(len(rows), bool)
    new[1:] = starts[1:] != starts[:-1]
    for name in ("low", "high", "band"):
        new[1:] |= rows[name][1:] != rows[name][:-1]
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    result = rows[first].copy()
    result["t"] = starts[first]
    for name in ("n", "n_forced", "weight"):
        result[name] = np.add.reduceat(rows[name], first)
    # About the first value, so that a bright steady source keeps its digits.
    offset = rows["flux_mean"] - result["flux_mean"][group]
    result["flux_mean"] += np.add.reduceat(rows["weight"] * offset, first) / result["weight"]
    offset = rows["flux_mean"] - result["flux_mean"][group]
    result["chi2"] = np.add.reduceat(rows["chi2"] + rows["weight"] * offset**2, first)
    result["flux_min"] = np.minimum.reduceat(rows["flux_min"], first)
    result["flux_max"] = np.maximum.reduceat(rows["flux_max"], first)
    return result


def halves(ids: Rows) -> Rows:
    """Return (n, 2) numbers that are the halves of (n, 16) ids, in their order."""
    return np.ascontiguousarray(ids).view(">u8").reshape(-1, 2).astype("u8")


def ids_of(rows: Rows) -> npt.NDArray[np.uint8]:
    """Return the (n, 16) ids of the objects of bins: the inverse of `halves`."""
    both = np.stack([rows["high"], rows["low"]], axis=1).astype(">u8")
    return np.ascontiguousarray(both).view(np.uint8).reshape(-1, 16)
