"""The lightcurve of an object, with what it inherited when it was split from another."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from trapline.common.ids import text_id
from trapline.common.postgres.connection import Connection


class Point(msgspec.Struct, frozen=True):
    """One measurement. Positions are ICRS degrees; NaN means not measured."""

    t: datetime
    """start of the image, UTC"""
    band: str
    unit: str | None
    """of the fluxes"""
    flux_int: float
    flux_int_err: float
    flux_peak: float
    flux_peak_err: float
    snr: float
    ra_deg: float
    dec_deg: float
    pos_err_ew_deg: float
    pos_err_ns_deg: float
    kind: int
    """0 blind, 1 forced at a known object, 2 monitored, 3 forced back in time"""
    link: int
    """0 one-to-one, 1 new, 2 forked, 3 shared, 4 forced, 5 monitored"""
    flags: int
    deruiter: float
    n: int
    v: float
    eta: float
    object: UUID
    """the object that was measured: an ancestor, for a point that was inherited"""
    image: UUID
    source: UUID
    point: UUID


_POINTS = """
WITH RECURSIVE line AS (
    SELECT _id, parent FROM object WHERE _id = $1
    UNION
    SELECT object._id, object.parent FROM object JOIN line ON object._id = line.parent
)
SELECT
    point.t, point.band, image.unit, point.flux_int, point.flux_int_err, point.flux_peak, point.flux_peak_err,
    point.snr, point.ra_deg, point.dec_deg, point.pos_err_ew_deg, point.pos_err_ns_deg, point.kind, point.link,
    point.flags, point.deruiter, point.n, point.v, point.eta, point.object, point.image, point.source,
    point._id AS point
FROM line JOIN point ON point.object = line._id LEFT JOIN image ON image._id = point.image
WHERE $2::text IS NULL OR point.band = $2
ORDER BY point.t, point.band, point._id
"""


async def lightcurve(con: Connection, object_id: bytes, band: str | None = None) -> list[Point]:
    """Return the points of an object in the order of time, in one band or in all.

    Raises
    ------
    LookupError
        When no object has this id, or it has no points in this band: the text says which bands it has.
    """
    key = UUID(bytes=object_id)
    points = [Point(**dict(row)) for row in await con.fetch(_POINTS, key, band)]
    if not points:
        await _explain_nothing(con, key, band)
    return points


async def _explain_nothing(con: Connection, key: UUID, band: str | None) -> None:
    if not await con.fetchval("SELECT 1 FROM object WHERE _id = $1", key):
        raise LookupError(f"no object {text_id(key.bytes)} is stored; `trapline cone RA DEC RADIUS` finds objects")
    if band is not None:
        rows = await con.fetch("SELECT DISTINCT band FROM object_state WHERE object = $1 ORDER BY band", key)
        bands = ", ".join(row["band"] for row in rows) or "none"
        raise LookupError(f"object {text_id(key.bytes)} has no points in band {band!r}; its bands are {bands}")
