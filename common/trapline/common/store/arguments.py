"""What people write for a time, a place or an id, in the one form that queries take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from trapline.common.ids import parse_id
from trapline.common.store.objects import Cone

When = str | datetime | Any
"""ISO text, a datetime (UTC when it names no zone), or an astropy `Time`"""


def as_cone(cone: Any) -> Cone | None:
    """Return (ra, dec, radius) in ICRS degrees of three numbers, or of a `SkyCoord` and a radius."""
    if cone is None:
        return None
    if len(cone) == 2:
        position, radius = cone
        icrs = position.icrs
        cone = (icrs.ra.deg, icrs.dec.deg, radius)
    ra, dec, radius = cone
    return float(ra), float(dec), float(radius.to_value("deg") if hasattr(radius, "to_value") else radius)


def as_time(when: When) -> datetime | None:
    """Return a time with its zone: UTC where none is named. Times of astropy come from any scale."""
    if when is None:
        return None
    time: Any = datetime.fromisoformat(when) if isinstance(when, str) else when
    if not isinstance(time, datetime):
        exact = time.utc.replicate(format="isot")
        exact.precision = 6
        time = datetime.fromisoformat(str(exact.value))
    result: datetime = time if time.tzinfo else time.replace(tzinfo=UTC)
    return result


def as_id(object_id: str | bytes | UUID) -> bytes:
    """Return the 16 bytes of an id in any of its forms."""
    if isinstance(object_id, UUID):
        return object_id.bytes
    return bytes(object_id) if isinstance(object_id, bytes) else parse_id(str(object_id))
