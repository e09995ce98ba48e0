"""Running statistics of each object in each band: one update per point, no loss of digits after a million.

Fluxes are taken relative to the first one of the object in the band, and the sums of squares about the running mean
(Welford 1962; weighted: West 1979), so that a bright steady source keeps its digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable, Rows

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

STATISTIC = np.dtype(
    [
        ("n", "u4"),
        ("n_blind", "u4"),
        ("first_flux", "f8"),
        ("mean", "f8"),  # relative to first_flux, as is weighted_mean
        ("square_sum", "f8"),
        ("weight", "f8"),
        ("weighted_mean", "f8"),
        ("chi2", "f8"),
        ("flux_min", "f8"),
        ("flux_max", "f8"),
        ("last_seen_us", "i8"),
    ]
)
ROW_OF = np.dtype([("row", "i4")])


def add_points(before: Rows, flux: Float, flux_err: Float, *, blind: bool, t_us: int) -> Rows:
    """Return the statistics after one more point each.

    Parameters
    ----------
    before
        Rows of `STATISTIC`, (n,); not changed. A row of zeros has no points.
    flux, flux_err
        Integrated flux and its error, (n,), finite, errors positive.
    blind
        Whether the points were detected without being asked for.
    t_us
        Start of their image, microseconds since 1970-01-01 UTC.
    """
    after = before.copy()
    first = before["n"] == 0
    after["n"] += 1
    after["n_blind"] += int(blind)
    after["first_flux"] = np.where(first, flux, before["first_flux"])
    offset, weight = flux - after["first_flux"], flux_err**-2.0
    step = offset - before["mean"]
    after["mean"] += step / after["n"]
    after["square_sum"] += step * (offset - after["mean"])
    after["weight"] += weight
    step = offset - before["weighted_mean"]
    after["weighted_mean"] += step * (weight / after["weight"])
    after["chi2"] += weight * step * (offset - after["weighted_mean"])
    after["flux_min"] = np.where(first, flux, np.minimum(before["flux_min"], flux))
    after["flux_max"] = np.where(first, flux, np.maximum(before["flux_max"], flux))
    if blind:
        seen_before = before["n_blind"] > 0
        after["last_seen_us"] = np.where(seen_before, np.maximum(before["last_seen_us"], t_us), t_us)
    return after


def summarise(rows: Rows) -> dict[str, Rows]:
    """Return the columns that messages carry; NaN where there is no point.

    With w = 1 / err^2: V = sqrt(N / (N-1) (mean(F^2) - mean(F)^2)) / mean(F), and
    eta = N / (N-1) (mean(w F^2) - mean(w F)^2 / mean(w)): Swinbank et al. 2015 (A&C 11, 25), equations 35 and 36;
    both 0 for one point. V is NaN where the mean is not positive.
    """
    freedom = np.maximum(rows["n"].astype(np.int64) - 1, 1)
    mean = rows["first_flux"] + rows["mean"]
    std = np.sqrt(np.maximum(rows["square_sum"], 0.0) / freedom)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        v = np.where(mean > 0, std / mean, np.nan)
    return {
        "n": rows["n"].copy(),
        "n_blind": rows["n_blind"].copy(),
        **{
            name: np.where(rows["n"] > 0, value, np.nan)
            for name, value in (
                ("flux_mean", mean),
                ("flux_mean_weighted", rows["first_flux"] + rows["weighted_mean"]),
                ("flux_std", std),
                ("v", v),
                ("eta", np.maximum(rows["chi2"], 0.0) / freedom),
            )
        },
    }


def restored(told: Rows) -> Rows:
    """Return the rows whose summary was told and stored: the same to rounding, relative to the mean.

    Parameters
    ----------
    told
        Columns n, n_blind, flux_mean, flux_mean_weighted, flux_mean_weighted_err, flux_std, eta, flux_min, flux_max and
        last_seen_us, n at least 1. Where the error is NaN, all points count as equally good: w = eta / std^2; and where
        that tells nothing, as good as those of the others.
    """
    rows, freedom = np.zeros(len(told), STATISTIC), told["n"].astype(np.int64) - 1
    for name in ("n", "n_blind", "flux_min", "flux_max", "last_seen_us"):
        rows[name] = told[name]
    rows["first_flux"] = told["flux_mean"]
    rows["weighted_mean"] = told["flux_mean_weighted"] - told["flux_mean"]
    rows["square_sum"], rows["chi2"] = told["flux_std"] ** 2 * freedom, told["eta"] * freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = told["flux_mean_weighted_err"] ** -2.0
        usual = np.where(np.isnan(weight), told["eta"] / told["flux_std"] ** 2, weight / told["n"])
    usual = np.where(np.isfinite(usual) & (usual > 0), usual, np.nan)
    typical = np.nanmedian(usual) if np.isfinite(usual).any() else 1.0
    rows["weight"] = np.where(np.isnan(weight), np.where(np.isnan(usual), typical, usual) * told["n"], weight)
    return rows


def _empty() -> GrowingTable:
    return GrowingTable(STATISTIC)


def _no_rows() -> GrowingTable:
    return GrowingTable(ROW_OF)


@dataclass(slots=True)
class BandStatistics:
    """Statistics of the objects that have points in one band; others cost four bytes."""

    table: GrowingTable = field(default_factory=_empty)
    objects: GrowingTable = field(default_factory=_no_rows)
    """per object of the catalogue: its row of `table` plus one, 0 when it has none"""

    def add(self, objects: RowNumbers, flux: Float, flux_err: Float, *, blind: bool, t_us: int) -> Rows:
        """Add one point to each of these objects (each at most once) and return their rows after it."""
        rows = self._rows_of(objects)
        after = add_points(self.table.rows[rows], flux, flux_err, blind=blind, t_us=t_us)
        self.table.rows[rows] = after
        return after

    def put(self, objects: RowNumbers, rows: Rows) -> None:
        """Set the rows of these objects."""
        places = self._rows_of(objects)
        self.table.rows[places] = rows

    def look(self, objects: RowNumbers) -> Rows:
        """Return the rows of these objects; zeros where they have no points."""
        rows = np.zeros(len(objects), STATISTIC)
        known = np.nonzero(objects < len(self.objects))[0]
        row_of = self.objects.rows["row"][objects[known]]
        rows[known[row_of > 0]] = self.table.rows[row_of[row_of > 0] - 1]
        return rows

    def inherit(self, parents: RowNumbers, children: RowNumbers) -> None:
        """Give each child a copy of the statistics of its parent, if that has points here."""
        have = np.zeros(len(parents), bool)
        known = parents < len(self.objects)
        have[known] = self.objects.rows["row"][parents[known]] > 0
        if have.any():
            rows = self._rows_of(children[have])
            self.table.rows[rows] = self.table.rows[self.objects.rows["row"][parents[have]] - 1]

    def _rows_of(self, objects: RowNumbers) -> RowNumbers:
        lacking = int(objects.max(initial=-1)) + 1 - len(self.objects)
        if lacking > 0:
            self.objects.extend(lacking)
        row_of = self.objects.rows["row"]
        absent = objects[row_of[objects] == 0]
        row_of[absent] = self.table.extend(len(absent)) + 1
        return row_of[objects].astype(np.intp) - 1
