"""An event as a message: which point caused it, by which rule, and the lightcurve up to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from trapline.common.ids import record_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array
from trapline.schemas.message import Message
from trapline.schemas.transients import RECENT, SCHEMA, SUPPRESSED_SCHEMA, Suppressed, Transients
from trapline.transient_finder.points import Context

AlertType = Literal["initial", "update", "retraction"]


class Statistics(NamedTuple):
    """Of the object in the band: points, V and eta (None: not said)."""

    n: int
    v: float | None = None
    eta: float | None = None

    @classmethod
    def known(cls, n: Any, v: Any, eta: Any) -> Statistics:
        """Return those that are numbers."""
        return cls(int(n), *(None if math.isnan(value) else float(value) for value in (v, eta)))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule says of one point."""

    kind: str
    significance: float
    rule: Mapping[str, float]
    statistics: Statistics
    certain: bool | None = None
    limits_image: bytes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to an event."""

    event_id: bytes
    alert_type: AlertType = "initial"
    ended: bool = False
    veto: str | None = None
    more: Mapping[str, float] = field(default_factory=dict[str, float])
    """what is added to the values of the rule"""


def event_header(context: Context, at: Mapping[str, Any], finding: Finding, change: Change) -> Transients:
    """Return the header of a record about an event.

    Parameters
    ----------
    context
        The image whose point causes it.
    at
        That point, by column: its object, position and peak.
    finding
        What the rule says of it.
    change
        Which event, and what of it.
    """
    image = context.image
    return Transients(
        schema=SCHEMA,
        id=_record_id(context, change),
        dataset=context.dataset,
        parents=[context.record_id],
        trace=context.trace,
        event_id=change.event_id,
        object_id=at["object_id"].tobytes(),
        alert_type=change.alert_type,
        ended=change.ended,
        veto=change.veto,
        role=image.role,
        image_id=image.id,
        image_place=image.place,
        t_us=context.t_us,
        band=context.band,
        unit=image.unit or "Jy",
        **_found(at, finding, change),
    )


def _found(at: Mapping[str, Any], finding: Finding, change: Change) -> dict[str, Any]:
    """Return what is said of the point and of the object, as fields of the header."""
    position = {name: float(at[f"object_{name}"]) for name in ("ra_deg", "dec_deg")}
    errors = {f"pos_{name}": float(at[f"object_{name}"]) for name in ("err_ew_deg", "err_ns_deg")}
    # Of what disappeared a forced flux may be here, or come later: that is timing, and no part of the event.
    seen = finding.kind != "disappeared"
    fluxes = {name: float(at[name]) if seen else math.nan for name in ("flux_peak", "flux_peak_err")}
    said = {name: getattr(finding, name) for name in ("kind", "significance", "certain", "limits_image")}
    rule = {**finding.rule, **change.more}
    return {**position, **errors, **fluxes, **said, "rule": rule, **finding.statistics._asdict()}


def changed(header: Transients, context: Context, change: Change) -> Transients:
    """Return the header of a later record about an event that says what its first one said."""
    return msgspec.structs.replace(
        header,
        id=_record_id(context, change),
        parents=[context.record_id],
        alert_type=change.alert_type,
        veto=change.veto,
        rule={**header.rule, **change.more},
    )


def suppressed(header: Transients) -> Suppressed:
    """Return an event as one that is kept back."""
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    own = record_id(header.t_us, SUPPRESSED_SCHEMA, header.image_id, header.event_id)
    return Suppressed(**fields | {"schema": SUPPRESSED_SCHEMA, "id": own})


def with_recent(header: Transients, recent: Rows) -> Message[Transients]:
    """Return the message with the newest points of the object in the band, oldest first: rows of `history.POINT`."""
    columns: dict[str, Array] = {c.name: np.ascontiguousarray(recent[c.name]) for c in RECENT.columns}
    return Message(header, RECENT.prefixed(columns))


def values_of(columns: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...], row: int) -> dict[str, float]:
    """Return some columns of a row as the reason of an event."""
    return {name: float(columns[name][row]) for name in names}


def _record_id(context: Context, change: Change) -> bytes:
    what = b"" if change.alert_type == "initial" else change.alert_type.encode() + b" ended" * change.ended
    return record_id(context.t_us, SCHEMA, context.image.id, change.event_id + what)
