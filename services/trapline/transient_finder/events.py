"""An event as a message: which point caused it, by which rule, and the lightcurve up to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from trapline.common.ids import event_id, record_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array
from trapline.schemas.message import Message
from trapline.schemas.transients import RECENT, SCHEMA, Transients
from trapline.transient_finder.points import Points


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of one point."""

    row: int
    kind: str
    significance: float
    rule: dict[str, float]
    certain: bool | None = None
    limits_image: bytes | None = None


def initial_event(points: Points, finding: Finding, recent: Rows) -> Message[Transients]:
    """Return the first message of an event.

    Parameters
    ----------
    points
        Where the point is that caused it.
    finding
        Its row, and what the rule says.
    recent
        Points of the object in the band, oldest first, that point included: rows of `history.POINT`.
    """
    at = {name: column[finding.row] for name, column in points.columns.items()}
    object_id = at["object_id"].tobytes()
    event = event_id(points.t_us, object_id, finding.kind, points.image.id)
    header = Transients(
        schema=SCHEMA,
        id=record_id(points.t_us, SCHEMA, points.image.id, event),
        dataset=points.header.dataset,
        parents=[points.header.id],
        trace=points.header.trace,
        event_id=event,
        object_id=object_id,
        kind=finding.kind,
        role=points.image.role,
        image_id=points.image.id,
        t_us=points.t_us,
        ra_deg=float(at["object_ra_deg"]),
        dec_deg=float(at["object_dec_deg"]),
        pos_err_ew_deg=float(at["object_err_ew_deg"]),
        pos_err_ns_deg=float(at["object_err_ns_deg"]),
        band=points.band,
        flux_peak=float(at["flux_peak"]),
        flux_peak_err=float(at["flux_peak_err"]),
        unit=points.image.unit or "Jy",
        significance=finding.significance,
        certain=finding.certain,
        rule=finding.rule,
        limits_image=finding.limits_image,
        n=int(at["n"]),
        v=_known(at["v"]),
        eta=_known(at["eta"]),
    )
    return Message(header, _recent_columns(recent))


def _recent_columns(recent: Rows) -> dict[str, Array]:
    columns = {column.name: np.ascontiguousarray(recent[column.name]) for column in RECENT.columns}
    return RECENT.prefixed(columns)


def _known(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
