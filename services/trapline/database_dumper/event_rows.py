"""Rows of `transient`: one per event, with the reason of its newest record."""

from __future__ import annotations

from typing import Any

import msgspec

from trapline.common.ids import text_id
from trapline.database_dumper.values import as_text, as_time, as_uuid, dataset_id
from trapline.schemas.transients import Transients

COLUMNS = (
    "_id", "dataset", "object", "image", "t", "kind", "alert_type", "role", "ra_deg", "dec_deg", "pos_err_ew_deg",
    "pos_err_ns_deg", "band", "flux_peak", "flux_peak_err", "unit", "significance", "reason",
)  # fmt: skip

RENEWED = ("alert_type", "significance", "reason")
"""what a later record of the same event replaces"""


def event_row(event: Transients) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`, or raise `SchemaError` when the time does not fit."""
    return (
        *(as_uuid(i) for i in (event.event_id, dataset_id(event.dataset), event.object_id, event.image_id)),
        as_time(event.t_us, "t_us"),
        *(as_text(t) for t in (event.kind, event.alert_type, event.role)),
        event.ra_deg, event.dec_deg, event.pos_err_ew_deg, event.pos_err_ns_deg,
        as_text(event.band.name), event.flux_peak, event.flux_peak_err, as_text(event.unit), event.significance,
        _reason(event),
    )  # fmt: skip


def _reason(event: Transients) -> str:
    """Return as JSON why this was announced; numbers that JSON does not know become null."""
    reason = {
        "rule": {as_text(name): value for name, value in event.rule.items()},
        "certain": event.certain,
        "limits_image": None if event.limits_image is None else text_id(event.limits_image),
        "image": text_id(event.image_id),
        "n": event.n,
        "v": event.v,
        "eta": event.eta,
    }
    return msgspec.json.encode(reason).decode()
