"""Objects by position and by what is known of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.polygon import Polygon

Cone = tuple[float, float, float]
"""(ra, dec, radius) in degrees, ICRS"""

_ROWS_AT_ONCE = 1000


class FoundObject(msgspec.Struct, frozen=True):
    """An object. Its position is the newest weighted mean, ICRS degrees, errors 1 sigma."""

    object: UUID
    distance_deg: float
    """from the middle of the cone or region; NaN without one"""
    ra_deg: float
    dec_deg: float
    pos_err_ew_deg: float
    pos_err_ns_deg: float
    first_seen: datetime
    last_seen: datetime
    kind: int
    """0 detected, 1 a position that an operator watches"""
    retired: bool
    """was split, and receives no more points"""
    parent: UUID | None
    """object that was split, whose past this one inherits"""
    name: str | None
    bands: list[str]
    n: int
    """points of all bands"""
    band: str | None
    """that which was asked for, or else that with the most points; the statistics are of it"""
    unit: str | None
    flux_mean: float
    flux_mean_weighted: float
    flux_min: float
    flux_max: float
    v: float
    eta: float


class ObjectFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects are wanted: those to which all that is given applies.

    Attributes
    ----------
    cone, region
        Where: (ra, dec, radius) in degrees, or corners joined by great circles. At most one of them.
    dataset, band
        Of this processing, measured in this band.
    min_points, min_v, min_eta
        Bounds of the statistics, in the band that is asked for or in that with the most points.
    seen_since
        Detected at or after this time.
    kind, retired
        As in `FoundObject`.
    """

    cone: Cone | None = None
    region: Polygon | None = None
    dataset: str | None = None
    band: str | None = None
    min_points: int | None = None
    min_v: float | None = None
    min_eta: float | None = None
    seen_since: datetime | None = None
    kind: int | None = None
    retired: bool | None = None

    def circle(self) -> Cone | None:
        """Return the cone in which to look; None for the whole sky.

        Raises
        ------
        ValueError
            When the cone is none.
        """
        if self.cone and self.region:
            raise ValueError("give a cone or a region, not both")
        if self.cone is None:
            return self.region.cone() if self.region else None
        ra_deg, dec_deg, radius_deg = self.cone
        if not (math.isfinite(ra_deg) and -90 <= dec_deg <= 90):
            raise ValueError(f"({ra_deg:g}, {dec_deg:g}) is no position: RA in degrees, DEC from -90 to 90 degrees")
        if not 0 < radius_deg <= 180:
            raise ValueError(f"a radius of {radius_deg:g} degrees: it must be above 0 and at most 180")
        return ra_deg % 360, dec_deg, radius_deg


# The statistics of an object are read by its own index; a planner that joins all states first reads the whole sky.
_OBJECTS = """
SELECT
    object._id AS object, {distance} AS distance_deg, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, first_seen,
    object.last_seen, kind, retired, parent, name, coalesce(every.bands, '{{}}') AS bands, coalesce(every.n, 0) AS n,
    state.band, state.unit, coalesce(state.flux_mean, 'NaN') AS flux_mean,
    coalesce(state.flux_mean_weighted, 'NaN') AS flux_mean_weighted, coalesce(state.flux_min, 'NaN') AS flux_min,
    coalesce(state.flux_max, 'NaN') AS flux_max, coalesce(state.v, 'NaN') AS v, coalesce(state.eta, 'NaN') AS eta
FROM object
LEFT JOIN LATERAL (
    SELECT array_agg(s.band ORDER BY s.band) AS bands, sum(s.n)::bigint AS n
    FROM object_state AS s WHERE s.object = object._id
) AS every ON true
LEFT JOIN LATERAL (
    SELECT s.* FROM object_state AS s
    WHERE s.object = object._id AND ($2::text IS NULL OR s.band = $2) ORDER BY s.n DESC, s.band LIMIT 1
) AS state ON true
WHERE ($1::text IS NULL OR object.dataset = (SELECT dataset._id FROM dataset WHERE dataset.name = $1))
    AND ($2::text IS NULL OR state.band IS NOT NULL)
    AND ($3::integer IS NULL OR state.n >= $3)
    AND ($4::double precision IS NULL OR (state.v >= $4 AND state.v <> 'NaN'))
    AND ($5::double precision IS NULL OR (state.eta >= $5 AND state.eta <> 'NaN'))
    AND ($6::timestamptz IS NULL OR object.last_seen >= $6)
    AND ($7::smallint IS NULL OR kind = $7)
    AND ($8::boolean IS NULL OR retired = $8)
    {inside}
ORDER BY {order}
"""

_COUNT = """
SELECT count(*) FROM (
    SELECT FROM object
    WHERE q3c_radial_query(ra_deg, dec_deg, $1, $2, $3)
        AND ($4::text IS NULL OR dataset = (SELECT dataset._id FROM dataset WHERE dataset.name = $4))
    LIMIT $5
) AS found
"""


async def find_objects(con: Connection, wanted: ObjectFilter) -> AsyncIterator[FoundObject]:
    """Yield the objects that are wanted: with a cone or region nearest first, else in the order of their ids.

    Rows come from a cursor: memory does not grow with their number.

    Raises
    ------
    ValueError
        When the cone is none.
    """
    circle = wanted.circle()
    query = _OBJECTS.format(
        distance="q3c_dist(ra_deg, dec_deg, $9, $10)" if circle else "'NaN'::double precision",
        inside="AND q3c_radial_query(ra_deg, dec_deg, $9, $10, $11)" if circle else "",
        order="distance_deg, object._id" if circle else "object._id",
    )
    values: list[Any] = [
        wanted.dataset, wanted.band, wanted.min_points, wanted.min_v, wanted.min_eta, wanted.seen_since, wanted.kind,
        wanted.retired, *(circle or ()),
    ]  # fmt: skip
    async with con.transaction(readonly=True):
        cursor = await con.cursor(query, *values)
        while rows := await cursor.fetch(_ROWS_AT_ONCE):
            for found in _inside(wanted.region, [FoundObject(**dict(row)) for row in rows]):
                yield found


async def cone(
    con: Connection, ra_deg: float, dec_deg: float, radius_deg: float, dataset: str | None = None
) -> list[FoundObject]:
    """Return the objects within a radius of a position (ICRS degrees), nearest first.

    Raises
    ------
    ValueError
        When the position is none, or the radius is not above 0 and at most 180.
    """
    wanted = ObjectFilter(cone=(ra_deg, dec_deg, radius_deg), dataset=dataset)
    return [found async for found in find_objects(con, wanted)]


async def nearest(
    con: Connection, ra_deg: float, dec_deg: float, radius_deg: float, most: int, dataset: str | None = None
) -> list[FoundObject]:
    """Return at most so many of the objects within a radius of a position (ICRS degrees), nearest first.

    Where objects are crowded a part of the radius holds as many, and no more than that part is read.

    Raises
    ------
    ValueError
        When the position is none, or the radius is not above 0 and at most 180.
    """
    found: list[FoundObject] = []
    for radius in (radius_deg / 64, radius_deg / 8, radius_deg):
        enough = radius < radius_deg and await con.fetchval(_COUNT, ra_deg, dec_deg, radius, dataset, most) == most
        if enough or radius == radius_deg:
            found = await cone(con, ra_deg, dec_deg, radius, dataset)
            break
    return found[:most]


def _inside(region: Polygon | None, found: list[FoundObject]) -> Iterable[FoundObject]:
    if region is None:
        return found
    held = region.holds(np.array([o.ra_deg for o in found]), np.array([o.dec_deg for o in found]))
    return (o for o, inside in zip(found, held, strict=True) if inside)
