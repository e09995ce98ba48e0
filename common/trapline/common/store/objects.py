"""Objects near a position."""

from __future__ import annotations

import math
from datetime import datetime
from uuid import UUID

import msgspec

from trapline.common.postgres.connection import Connection


class NearObject(msgspec.Struct, frozen=True):
    """An object and how far it is. Its position is the newest weighted mean, ICRS degrees, errors 1 sigma."""

    object: UUID
    distance_deg: float
    ra_deg: float
    dec_deg: float
    pos_err_ew_deg: float
    pos_err_ns_deg: float
    first_seen: datetime
    last_seen: datetime
    kind: int
    """0 detected, 1 a position that an operator watches"""
    retired: bool
    name: str | None
    bands: list[str]
    n: int
    """points of all bands"""


_CONE = """
SELECT
    object._id AS object, q3c_dist(ra_deg, dec_deg, $1, $2) AS distance_deg, ra_deg, dec_deg, pos_err_ew_deg,
    pos_err_ns_deg, first_seen, object.last_seen, kind, retired, name, coalesce(state.bands, '{}') AS bands,
    coalesce(state.n, 0) AS n
FROM object LEFT JOIN LATERAL (
    SELECT array_agg(band ORDER BY band) AS bands, sum(n)::bigint AS n FROM object_state WHERE object = object._id
) AS state ON true
WHERE q3c_radial_query(ra_deg, dec_deg, $1, $2, $3)
    AND ($4::text IS NULL OR dataset = (SELECT _id FROM dataset WHERE dataset.name = $4))
ORDER BY distance_deg, object._id
"""


async def cone(
    con: Connection, ra_deg: float, dec_deg: float, radius_deg: float, dataset: str | None = None
) -> list[NearObject]:
    """Return the objects within a radius of a position (ICRS degrees), nearest first.

    Raises
    ------
    ValueError
        When the position is none, or the radius is not above 0 and at most 180.
    """
    if not (math.isfinite(ra_deg) and -90 <= dec_deg <= 90):
        raise ValueError(f"({ra_deg:g}, {dec_deg:g}) is no position: RA in degrees, DEC from -90 to 90 degrees")
    if not 0 < radius_deg <= 180:
        raise ValueError(f"a radius of {radius_deg:g} degrees: it must be above 0 and at most 180")
    return [NearObject(**dict(row)) for row in await con.fetch(_CONE, ra_deg % 360, dec_deg, radius_deg, dataset)]
