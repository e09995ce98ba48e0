"""The columns of a `lightcurves` record: points, and the states of the objects after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.catalogue import Ids
from trapline.associator.statistics import summarise
from trapline.common.table import Rows
from trapline.schemas.columns import Array, Kind, Link
from trapline.schemas.lightcurves import INHERITED, POINTS, STATES

_MEASURED = (
    "source_id", "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg",
    "flux_peak", "flux_peak_err", "flux_int", "flux_int_err", "snr", "flags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """Points, (n,) each."""

    measured: Mapping[str, Array]
    """columns of `sources`, a row per point"""
    kind: npt.NDArray[np.uint8]
    link: npt.NDArray[np.uint8]
    point_ids: Ids
    objects: Rows
    """of `catalogue.OBJECT`, after these points"""
    statistics: Rows
    """of `statistics.STATISTIC`, after these points; without points where the object has none in the band"""
    deruiter: npt.NDArray[np.float64]
    misses: npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Founded:
    """What earlier images allow to say about the new objects among the points, in their order."""

    n_earlier: npt.NDArray[np.int64]
    limits: Rows
    """of `cells.LIMIT`"""


def point_columns(outcome: Outcome, founded: Founded | None = None) -> dict[str, Array]:
    """Return one row per point."""
    objects, columns = outcome.objects, POINTS.empty(len(outcome.link))
    columns |= {name: outcome.measured[name] for name in _MEASURED}
    columns["point_id"] = outcome.point_ids
    columns["object_id"] = objects["object_id"].copy()
    columns["kind"], columns["link"] = outcome.kind, outcome.link
    columns["deruiter"] = outcome.deruiter.astype(np.float32)
    columns["object_ra_deg"] = objects["ra_deg"].copy()
    columns["object_dec_deg"] = objects["dec_deg"].copy()
    columns["object_err_ew_deg"] = objects["weight_ew"] ** -0.5
    columns["object_err_ns_deg"] = objects["weight_ns"] ** -0.5
    columns["first_seen_us"] = objects["first_seen_us"].copy()
    columns["misses"] = outcome.misses
    columns |= summarise(outcome.statistics)
    if founded is not None:
        _fill_limits(columns, outcome.link == Link.NEW, founded)
    return columns


def state_columns(objects: Rows, statistics: Rows) -> dict[str, Array]:
    """Return the newest statistics of objects in a band, ready for a message."""
    return STATES.prefixed(_states(objects, statistics))


def inherited_columns(bands: Sequence[tuple[Rows, Rows]]) -> dict[str, Array]:
    """Return the statistics of children of forks in other bands: per band, its rows of objects and of statistics."""
    if not bands:
        return {}
    parts = [
        _states(objects, statistics) | {"band": np.full(len(objects), number, np.uint8)}
        for number, (objects, statistics) in enumerate(bands)
    ]
    return INHERITED.prefixed(joined_columns(parts))


def _states(objects: Rows, statistics: Rows) -> dict[str, Array]:
    columns = {"object_id": objects["object_id"].copy(), **summarise(statistics)}
    columns |= {name: statistics[name].copy() for name in ("flux_min", "flux_max", "last_seen_us")}
    weight: Rows = np.where(statistics["n"] > 0, statistics["weight"], np.nan)
    columns["flux_mean_weighted_err"] = weight**-0.5
    return columns


def joined_columns(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """Return the rows of several records of equal columns as those of one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def blind_kinds(count: int) -> npt.NDArray[np.uint8]:
    """Return the kind of blind points."""
    return np.full(count, Kind.BLIND, np.uint8)


def _fill_limits(columns: dict[str, Array], new: npt.NDArray[np.bool_], founded: Founded) -> None:
    limits, known = founded.limits, founded.n_earlier > 0
    columns["n_earlier"][new] = founded.n_earlier
    columns["limit_image_id"][new] = limits["image_id"]
    columns["limit_low"][new] = np.where(known, limits["low"], np.nan)
    columns["limit_high"][new] = np.where(known, limits["high"], np.nan)
