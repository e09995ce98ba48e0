"""What is remembered of objects in a band: statistics in the finder's own order, and the newest points.

The newest points of all objects stand in one ring. Each names the one of the same object before it, so that the memory
is bounded by the length of the ring, not by the number of objects or points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable, Rows
from trapline.transient_finder.population import Population

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

BAND = np.dtype(
    [
        ("object", "i8"),  # row of the object
        ("n", "u4"),
        ("mean", "f8"),
        ("square_sum", "f8"),  # about the mean
        ("weight", "f8"),
        ("weighted_mean", "f8"),
        ("chi2", "f8"),
        ("baseline", "f8"),  # weighted mean in which no point counts as further off than a flare must be
        ("newest", "i8"),  # serial number of its newest point in the ring, plus one
        ("v_bin", "u1"),  # of the population's histograms
        ("eta_bin", "u1"),
        ("brightest", "f8"),  # blind point, and its error
        ("brightest_err", "f8"),
        ("missed_limit", "f8"),  # largest of the limits of the images that missed it since its last blind point
    ]
)
ROW_OF = np.dtype([("row", "i4")])
POINT = np.dtype(
    [
        ("point_id", "u1", (16,)),
        ("t_us", "i8"),
        ("kind", "u1"),
        ("flux_peak", "f8"),
        ("flux_peak_err", "f8"),
        ("flux_int", "f8"),
        ("flux_int_err", "f8"),
        ("before", "i8"),  # serial number of the point before it, plus one
    ]
)
_TAKEN_OVER = ("point_id", "kind", "flux_peak", "flux_peak_err", "flux_int", "flux_int_err")
_INHERITED = (
    "n", "mean", "square_sum", "weight", "weighted_mean", "chi2", "baseline", "newest", "brightest", "brightest_err",
)  # fmt: skip


class Ring:
    """The newest points, each under a serial number that is never used again."""

    def __init__(self, capacity: int, table: GrowingTable | None = None, written: int = 0) -> None:
        self.capacity = capacity
        self.written = written
        self.table = GrowingTable(POINT) if table is None else table

    def write(self, points: Mapping[str, npt.NDArray[Any]], t_us: int, before: npt.NDArray[np.int64]) -> RowNumbers:
        """Append points, whose predecessors are `before`, and return their serial numbers."""
        serials = np.arange(self.written, self.written + len(before))
        rows = np.zeros(len(before), POINT)
        for name in _TAKEN_OVER:
            rows[name] = points[name]
        rows["t_us"], rows["before"] = t_us, before
        self.written += len(before)
        lacking = min(self.written, self.capacity) - len(self.table)
        if lacking > 0:
            self.table.extend(lacking)
        # Of more points than fit, the last ones stay.
        last = slice(max(len(before) - self.capacity, 0), None)
        self.table.rows[serials[last] % self.capacity] = rows[last]
        return serials

    def follow(self, newest: int, count: int) -> Rows:
        """Return up to `count` points of an object, oldest first, from the one that `newest` names."""
        found: list[int] = []
        while newest > max(self.written - self.capacity, 0) and len(found) < count:
            found.append((newest - 1) % self.capacity)
            newest = int(self.table.rows["before"][found[-1]])
        return self.table.rows[found[::-1]]


def _no_rows() -> GrowingTable:
    return GrowingTable(BAND)


def _no_row_numbers() -> GrowingTable:
    return GrowingTable(ROW_OF)


@dataclass(slots=True)
class BandHistory:
    """Objects in one band; those without a point in it cost four bytes."""

    number: int
    """of the band, among those of the sky: its bit"""
    table: GrowingTable = field(default_factory=_no_rows)
    row_of: GrowingTable = field(default_factory=_no_row_numbers)
    """per object: its row of `table` plus one, 0 when it has none"""
    population: Population = field(default_factory=Population)

    @classmethod
    def of(cls, number: int, table: GrowingTable) -> BandHistory:
        """Return the history with these rows."""
        found = cls(number, table)
        found.row_of.extend(int(table.rows["object"].max(initial=-1)) + 1)
        found.row_of.rows["row"][table.rows["object"]] = np.arange(1, len(table) + 1)
        found.population.add(table.rows["v_bin"], table.rows["eta_bin"])
        return found

    def rows(self, objects: RowNumbers) -> RowNumbers:
        """Return the rows of objects (each at most once), appending those that have none."""
        lacking = int(objects.max(initial=-1)) + 1 - len(self.row_of)
        if lacking > 0:
            self.row_of.extend(lacking)
        row_of = self.row_of.rows["row"]
        absent = objects[row_of[objects] == 0]
        if len(absent):
            fresh = self.table.extend(len(absent))
            self.table.rows["object"][fresh] = absent
            row_of[absent] = fresh + 1
        return row_of[objects].astype(np.intp) - 1

    def inherit(self, child: int, parent: int) -> None:
        """Give an object the past of another, when that has one in this band."""
        if parent >= len(self.row_of) or not self.row_of.rows["row"][parent]:
            return
        rows = self.rows(np.array([child, parent]))
        for name in _INHERITED:
            self.table.rows[name][rows[0]] = self.table.rows[name][rows[1]]

    def write(self, rows: RowNumbers, after: Rows) -> None:
        """Replace rows by what they are after a point, in the population too."""
        old = self.table.rows[rows]
        self.population.remove(old["v_bin"], old["eta_bin"])
        self.population.add(after["v_bin"], after["eta_bin"])
        self.table.rows[rows] = after


def with_point(before: Rows, flux: Float, flux_err: Float, reach: Float) -> Rows:
    """Return rows after one more point each (Welford 1962; weighted: West 1979).

    A flare moves the baseline by no more than the smallest flare would: else its end would look like a fade.

    Parameters
    ----------
    before
        Rows of `BAND`, (n,); not changed.
    flux, flux_err
        Integrated flux and its error, (n,).
    reach
        Largest distance from the baseline that counts; infinite where none is too large.
    """
    after, weight = before.copy(), flux_err**-2.0
    after["n"] += 1
    step = flux - before["mean"]
    after["mean"] += step / after["n"]
    after["square_sum"] += step * (flux - after["mean"])
    after["weight"] += weight
    step = flux - before["weighted_mean"]
    after["weighted_mean"] += step * (weight / after["weight"])
    after["chi2"] += weight * step * (flux - after["weighted_mean"])
    after["baseline"] += np.clip(flux - before["baseline"], -reach, reach) * (weight / after["weight"])
    return after


def before_point(before: Rows) -> dict[str, npt.NDArray[Any]]:
    """Return the columns that rules see of the memory before a point: baseline, its error, number of points."""
    n_before = before["n"].astype(np.int64)
    return {
        "n_before": n_before,
        "mean": before["baseline"].copy(),
        "mean_err": np.power(before["weight"], -0.5, out=np.zeros(len(before)), where=n_before > 0),
    }


def after_point(after: Rows) -> dict[str, npt.NDArray[Any]]:
    """Return the columns that rules see of the memory after a point.

    V is sqrt(N / (N-1) (mean(F^2) - mean(F)^2)) / mean(F), NaN where the mean is not positive, and eta the reduced
    chi^2 about the weighted mean: Swinbank et al. 2015 (A&C 11, 25), equations 35 and 36; both 0 for one point.
    """
    freedom = np.maximum(after["n"].astype(np.int64) - 1, 1)
    std = np.sqrt(np.maximum(after["square_sum"], 0.0) / freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = np.where(after["mean"] > 0, std / after["mean"], np.nan)
    return {
        "n_now": after["n"].astype(np.int64),
        "v_now": v,
        "eta_now": np.maximum(after["chi2"], 0.0) / freedom,
    }
