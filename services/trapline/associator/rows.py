"""The columns of a `lightcurves` record: points, and the states of the objects after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.catalogue import Ids, RowNumbers
from trapline.associator.intake import Usable
from trapline.associator.statistics import summarise
from trapline.common.table import Rows
from trapline.schemas.columns import Array, Kind, Link
from trapline.schemas.lightcurves import POINTS, STATES

_MEASURED = (
    "source_id", "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg",
    "flux_peak", "flux_peak_err", "flux_int", "flux_int_err", "snr", "flags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """The points that the sources of an image became."""

    source: RowNumbers
    """rank of the source of each point"""
    link: npt.NDArray[np.uint8]
    point_ids: Ids
    objects: Rows
    """of `catalogue.OBJECT`, after these points"""
    statistics: Rows
    """of `statistics.STATISTIC`, after these points"""
    deruiter: npt.NDArray[np.float64]
    n_earlier: npt.NDArray[np.int64]
    """of the new objects only, as are the limits"""
    limits: Rows
    """of `cells.LIMIT`"""


def point_columns(sources: Usable, outcome: Outcome) -> dict[str, Array]:
    """Return one row per point, in the order of sources and then objects."""
    objects, columns = outcome.objects, POINTS.empty(len(outcome.link))
    columns |= {name: sources.columns[name][outcome.source] for name in _MEASURED}
    columns["point_id"] = outcome.point_ids
    columns["object_id"] = objects["object_id"].copy()
    columns["kind"] = np.full(len(outcome.link), Kind.BLIND, np.uint8)
    columns["link"] = outcome.link
    columns["deruiter"] = outcome.deruiter.astype(np.float32)
    columns["object_ra_deg"] = objects["ra_deg"].copy()
    columns["object_dec_deg"] = objects["dec_deg"].copy()
    columns["object_err_ew_deg"] = objects["weight_ew"] ** -0.5
    columns["object_err_ns_deg"] = objects["weight_ns"] ** -0.5
    columns["first_seen_us"] = objects["first_seen_us"].copy()
    # Misses stay 0: each point here is a blind match, which ends them.
    columns |= summarise(outcome.statistics)
    _fill_limits(columns, outcome)
    return columns


def state_columns(outcome: Outcome) -> dict[str, Array]:
    """Return the newest statistics of each object that got a point, ready for a message."""
    statistics = outcome.statistics
    columns = {"object_id": outcome.objects["object_id"].copy(), **summarise(statistics)}
    columns |= {name: statistics[name].copy() for name in ("flux_min", "flux_max", "last_seen_us")}
    return STATES.prefixed(columns)


def _fill_limits(columns: dict[str, Array], outcome: Outcome) -> None:
    new, limits = outcome.link == Link.NEW, outcome.limits
    known = outcome.n_earlier > 0
    columns["n_earlier"][new] = outcome.n_earlier
    columns["limit_image_id"][new] = limits["image_id"]
    columns["limit_low"][new] = np.where(known, limits["low"], np.nan)
    columns["limit_high"][new] = np.where(known, limits["high"], np.nan)
