"""One record of lightcurves after another: the rules judge its points, and what they say becomes events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Link
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.events import Finding, initial_event
from trapline.transient_finder.history import BandHistory, Ring
from trapline.transient_finder.points import Points, judgeable, once_each
from trapline.transient_finder.rules import Thresholds, flare, new_source
from trapline.transient_finder.vetoes import Vetoes

__all__ = ["FinderState", "Judged", "step"]

RowNumbers = npt.NDArray[np.intp]


@dataclass(slots=True)
class FinderState:
    """All that the finder remembers between records: `step` changes it, a snapshot holds it."""

    bands: dict[tuple[str, str], BandHistory] = field(default_factory=dict[tuple[str, str], BandHistory])
    """by name of the band and Stokes parameter"""
    ring: Ring | None = None
    """made by the first record, in the configured length"""


class Judged(NamedTuple):
    """What came of one record."""

    messages: list[Message[Transients]]
    suppressed: dict[str, int]
    """events that a veto kept back, by its name"""


def step(state: FinderState, record: Message[Lightcurves], settings: FinderConfig) -> Judged:
    """Judge the points of one record, take them into the history, and return the events.

    Late records, values measured back in time, children of forks and values that were not measured (NaN) enter no rule
    and no history. A record without an image or without rows says nothing.

    Raises
    ------
    ValueError
        When rows have no image with a start and a band; the state is as it was.
    SchemaError
        When a column is missing or of the wrong type.
    """
    points = judgeable(record)
    if points is None:
        return Judged([], {})
    history = state.bands.setdefault(points.key, BandHistory())
    state.ring = state.ring or Ring(settings.history_points)
    judged = Judged([], {})
    for part in once_each(points):
        judged.messages.extend(_judge(history, state.ring, part, settings, judged.suppressed))
    return judged


def _judge(
    history: BandHistory, ring: Ring, points: Points, settings: FinderConfig, suppressed: dict[str, int]
) -> list[Message[Transients]]:
    columns, objects = points.columns, history.rows(points.columns["object_id"])
    vetoes = Vetoes(columns, suppressed)
    findings = _new_sources(points, vetoes, settings)
    findings += _flares(history, objects, points, vetoes, settings)
    history.add(objects, columns["flux_int"], columns["flux_int_err"])
    history.link(objects, ring, columns, points.t_us)
    newest = history.table.rows["newest"][objects]
    return [
        initial_event(points, finding, ring.follow(int(newest[finding.row]), settings.recent_points))
        for finding in sorted(findings, key=lambda finding: finding.row)
    ]


def _new_sources(points: Points, vetoes: Vetoes, settings: FinderConfig) -> list[Finding]:
    columns = points.columns
    compared = ("flux_peak", "flux_peak_err", "limit_low", "limit_high", "n_earlier")
    found = new_source(*(columns[name] for name in compared), warm_up=settings.warm_up)
    alarming = vetoes.passing((columns["link"] == Link.NEW) & found.possible)
    return [
        Finding(
            row=row,
            kind="new_source",
            significance=float(found.significance[row]),
            rule={name: float(columns[name][row]) for name in compared} | {"warm_up": float(settings.warm_up)},
            certain=bool(found.certain[row]),
            limits_image=columns["limit_image_id"][row].tobytes(),
        )
        for row in np.nonzero(alarming)[0].tolist()
    ]


def _flares(
    history: BandHistory, objects: RowNumbers, points: Points, vetoes: Vetoes, settings: FinderConfig
) -> list[Finding]:
    """Open and close episodes, and return what opened one."""
    flux, flux_err = points.columns["flux_int"], points.columns["flux_int_err"]
    mean, mean_err, n_before = history.mean(objects)
    thresholds = Thresholds(settings.flare_sigma, settings.flux_sys_frac, settings.min_points)
    found = flare(flux, flux_err, mean, mean_err, n_before, thresholds)
    flaring = history.flaring(objects)
    opened = vetoes.passing(found.above & ~flaring)
    history.set_flaring(objects, np.where(found.judged, (flaring | opened) & found.above, flaring))
    values = {"flux_int": flux, "flux_int_err": flux_err, "mean": mean, "mean_err": mean_err, "n_before": n_before}
    limits = {name: float(value) for name, value in thresholds._asdict().items()}
    return [
        Finding(
            row=row,
            kind="flare",
            significance=float(found.sigmas[row]),
            rule={name: float(column[row]) for name, column in values.items()} | limits,
        )
        for row in np.nonzero(opened)[0].tolist()
    ]
