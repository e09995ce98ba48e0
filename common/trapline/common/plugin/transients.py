"""An event as the transient finder would announce it, from a row of `lightcurves`: for rules of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from trapline.common.channel.event import Event
from trapline.common.ids import event_id, id_time_us
from trapline.common.plugin.messages import row_of
from trapline.schemas.image import Band
from trapline.schemas.transients import SCHEMA, Transients


def transient(
    event: Event,
    row: int,
    *,
    kind: str,
    significance: float,
    rule: Mapping[str, float] | None = None,
    alert_type: Literal["initial", "update", "retraction"] = "initial",
    opening_image: bytes | None = None,
) -> Transients:
    """Return the event that a rule announces for one row of a `lightcurves` record.

    Parameters
    ----------
    event
        The record.
    row
        Index of the point.
    kind
        Name of what happened, the rule's own.
    significance
        By how much the rule holds, in sigma.
    rule
        Values that the rule saw, and its thresholds.
    opening_image
        Image in which it began: an update carries that of the first announcement, and has the same `event_id`.
    """
    image = event.image
    opening = opening_image or image.id
    object_id = row_of(event["object_id"], row)
    return Transients(
        schema=SCHEMA,
        id=bytes(16),  # given when it is published
        event_id=event_id(id_time_us(opening), object_id, kind, opening),
        object_id=object_id,
        kind=kind,
        alert_type=alert_type,
        role=image.role,
        image_id=image.id,
        t_us=image.t_start_us,
        ra_deg=row_of(event["object_ra_deg"], row),
        dec_deg=row_of(event["object_dec_deg"], row),
        pos_err_ew_deg=row_of(event["object_err_ew_deg"], row),
        pos_err_ns_deg=row_of(event["object_err_ns_deg"], row),
        band=image.band or Band(name=""),
        flux_peak=row_of(event["flux_peak"], row),
        flux_peak_err=row_of(event["flux_peak_err"], row),
        unit=image.unit or "",
        significance=float(significance),
        rule={name: float(value) for name, value in (rule or {}).items()},
        n=row_of(event["n"], row),
        v=row_of(event["v"], row),
        eta=row_of(event["eta"], row),
    )
