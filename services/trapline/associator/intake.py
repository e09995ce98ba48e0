"""The blind sources of an image that can be used, and how many cannot and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.catalogue import Ids, Positions
from trapline.common.sky import wrap_360
from trapline.common.table import Rows
from trapline.schemas.columns import Kind

RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]

# Squares of what lies outside overflow.
_LARGEST = 1e70
_SMALLEST = 1e-70


@dataclass(frozen=True, slots=True)
class Usable:
    """Blind sources in the order of their rank in the image."""

    columns: dict[str, Rows]
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def source_ids(self) -> Ids:
        """Ids of the sources, (n, 16)."""
        return self.columns["source_id"]

    def take(self, which: Bool) -> Usable:
        """Return some of them."""
        columns = {name: column[which] for name, column in self.columns.items()}
        return Usable(columns, self.positions.take(which))

    def fluxes(self, which: RowNumbers) -> tuple[Rows, Rows]:
        """Return integrated fluxes and their errors of some of them."""
        return self.columns["flux_int"][which], self.columns["flux_int_err"][which]


def usable(arrays: Mapping[str, Rows]) -> tuple[Usable, dict[str, int]]:
    """Return the usable sources of a `sources` record, and the number of those dropped by reason.

    Reasons are ``non_finite`` (flux, position or an error), ``out_of_range`` (an error that is not
    positive, a declination beyond the pole, a number whose square overflows) and ``repeated`` (a source id seen twice).
    """
    blind = arrays["kind"] == Kind.BLIND
    finite = _finite(arrays)
    in_range = _in_range(arrays)
    rows = _ranked(arrays, np.nonzero(blind & finite & in_range)[0])
    first = _first_of_each_id(arrays, rows)
    dropped = {
        "non_finite": int((blind & ~finite).sum()),
        "out_of_range": int((blind & finite & ~in_range).sum()),
        "repeated": int((~first).sum()),
    }
    rows = rows[first]
    columns = {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}
    positions = Positions(
        wrap_360(columns["ra_deg"]),
        columns["dec_deg"],
        columns["pos_err_ew_deg"],
        columns["pos_err_ns_deg"],
    )
    columns["ra_deg"] = positions.ra_deg
    return Usable(columns, positions), {reason: count for reason, count in dropped.items() if count}


def measurable(flux: Rows, flux_err: Rows) -> Bool:
    """Return which forced values can enter statistics: finite, with a positive error, neither beyond all measure."""
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(flux) < _LARGEST) & (flux_err > _SMALLEST) & (flux_err < _LARGEST))


def _finite(arrays: Mapping[str, Rows]) -> Bool:
    names = ("ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "flux_peak", "flux_int", "flux_int_err")
    finite = [np.isfinite(arrays[name]) for name in names]
    # The error of a peak enters no calculation here: it may be unknown (NaN).
    return np.asarray(np.logical_and.reduce([*finite, ~np.isinf(arrays["flux_peak_err"])]))


def _in_range(arrays: Mapping[str, Rows]) -> Bool:
    with np.errstate(invalid="ignore"):
        errors = [
            (arrays[name] > _SMALLEST) & (arrays[name] < _LARGEST)
            for name in ("pos_err_ew_deg", "pos_err_ns_deg", "flux_int_err")
        ]
        sizes = [np.abs(arrays["flux_int"]) < _LARGEST, np.abs(arrays["dec_deg"]) <= 90.0]
        return np.asarray(np.logical_and.reduce([*errors, *sizes]))


def _ranked(arrays: Mapping[str, Rows], rows: RowNumbers) -> RowNumbers:
    """Return rows by (y, x), and by id where these are equal: an order that does not depend on how they arrived."""
    x, y = arrays["x"][rows], arrays["y"][rows]
    if ((y[1:] > y[:-1]) | ((y[1:] == y[:-1]) & (x[1:] > x[:-1]))).all():
        return rows  # as the extractor writes them
    halves = _halves(arrays, rows)
    return rows[np.lexsort((halves[:, 1], halves[:, 0], x, y))]


def _first_of_each_id(arrays: Mapping[str, Rows], rows: RowNumbers) -> Bool:
    halves = _halves(arrays, rows)
    repeated = np.zeros(len(rows), bool)
    if len(np.unique(halves[:, 1])) < len(rows):
        order = np.lexsort((np.arange(len(rows)), halves[:, 1], halves[:, 0]))
        repeated[order[1:]] = (halves[order[1:]] == halves[order[:-1]]).all(axis=1)
    return ~repeated


def _halves(arrays: Mapping[str, Rows], rows: RowNumbers) -> npt.NDArray[np.uint64]:
    """Return ids as two numbers each, (n, 2), that sort as the ids do."""
    return np.ascontiguousarray(arrays["source_id"][rows]).view(">u8").reshape(-1, 2)
