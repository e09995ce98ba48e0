"""Which events an outlet is given, and an event as JSON."""

from __future__ import annotations

import json
from typing import Any

from trapline.common.ids import text_id
from trapline.common.sky import separation_deg
from trapline.outlets.config import Filters
from trapline.schemas.columns import Array
from trapline.schemas.message import Message
from trapline.schemas.transients import RECENT, Transients


def passes(event: Transients, filters: Filters) -> bool:
    """Tell whether an event passes filters; a significance that is not known passes none that asks for one."""
    smallest, cone = filters.significance_min, filters.cone
    named = (
        (filters.kinds, event.kind),
        (filters.alert_types, event.alert_type),
        (filters.roles, event.role),
        (filters.bands, event.band.name),
    )
    return (
        all(allowed is None or value in allowed for allowed, value in named)
        and (smallest is None or event.significance >= smallest)
        and (not filters.certain or event.certain is not False)
        and (
            cone is None
            or float(separation_deg(event.ra_deg, event.dec_deg, cone.ra_deg, cone.dec_deg)) <= cone.radius_deg
        )
    )


def as_json(message: Message[Transients]) -> bytes:
    """Return an event as one JSON object: fields of the header, ids as text, NaN as null, `recent` as lists.

    The cut-out stays behind: who wants pixels reads the channel.
    """
    header = message.header
    fields = {name: _plain(getattr(header, name)) for name in header.__struct_fields__ if name not in _INTERNAL}
    recent = RECENT.select(message.arrays)
    fields["recent"] = {name: _column(column) for name, column in recent.items()}
    return json.dumps(fields, allow_nan=False).encode()


_INTERNAL = frozenset({"frames", "consumed", "cutout_wcs"})


def _column(column: Array) -> list[Any]:
    if column.ndim > 1:
        return [text_id(row.tobytes()) for row in column]
    return [_plain(value) for value in column.tolist()]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return text_id(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if hasattr(value, "__struct_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return value
