"""What the store knows of a dataset: objects, their statistics, and which images covered what.

Read when the state is made anew, in one transaction, so that all of it is as it was at one moment; the store also says
up to which record of `lightcurves` that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.table import Rows
from trapline.schemas.columns import array_to_ids
from trapline.schemas.image import Band, Beam, Image

OBJECT = np.dtype(
    [
        ("object_id", "u1", (16,)),
        ("parent_id", "u1", (16,)),  # zeros when it was founded
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("err_ew_deg", "f8"),
        ("err_ns_deg", "f8"),
        ("first_ra_deg", "f8"),  # of the founding source; NaN when its point is no longer kept as measured
        ("first_dec_deg", "f8"),
        ("first_seen_us", "i8"),
        ("last_seen_us", "i8"),
        ("retired", "u1"),
        ("monitored", "u1"),
    ]
)
STATE = np.dtype(
    [
        ("object_id", "u1", (16,)),
        ("n", "u4"),
        ("n_blind", "u4"),
        ("flux_mean", "f8"),
        ("flux_mean_weighted", "f8"),
        ("flux_mean_weighted_err", "f8"),  # NaN when an older version stored it
        ("flux_std", "f8"),
        ("flux_min", "f8"),
        ("flux_max", "f8"),
        ("eta", "f8"),
        ("last_seen_us", "i8"),
    ]
)
IMAGE = np.dtype(
    [
        ("image_id", "u1", (16,)),
        ("t_us", "i8"),
        ("low", "f8"),
        ("high", "f8"),
        ("late", "u1"),
        ("pointing", "i8"),  # number of its pointing
    ]
)
POINT = np.dtype(
    [
        ("point_id", "u1", (16,)),
        ("object_id", "u1", (16,)),
        ("image_id", "u1", (16,)),
        ("t_us", "i8"),
        ("flux_int", "f8"),
        ("flux_int_err", "f8"),
        ("band", "i4"),  # place in the order of `states`
    ]
)
_NOBODY = bytes(16)
_AT_ONCE = 20_000

_OBJECTS = """
SELECT o._id, o.parent, o.ra_deg, o.dec_deg, o.pos_err_ew_deg, o.pos_err_ns_deg,
    coalesce(f.ra_deg, 'NaN'), coalesce(f.dec_deg, 'NaN'),
    (extract(epoch FROM o.first_seen) * 1000000)::bigint, (extract(epoch FROM o.last_seen) * 1000000)::bigint,
    o.retired::integer, o.kind
FROM object AS o LEFT JOIN LATERAL (
    SELECT p.ra_deg, p.dec_deg FROM point AS p
    WHERE o.parent IS NULL AND o.kind = 0 AND p.object = o._id AND p.t = o.first_seen AND p.link = 1
    UNION ALL
    SELECT p.ra_deg, p.dec_deg FROM segment AS s
    CROSS JOIN LATERAL unnest(s.times, s.link, s.ra_deg, s.dec_deg) AS p (t, link, ra_deg, dec_deg)
    WHERE o.parent IS NULL AND o.kind = 0 AND s.object = o._id AND o.first_seen BETWEEN s.t AND s.t_last
        AND p.t = o.first_seen AND p.link = 1
    LIMIT 1
) AS f ON true
WHERE o.dataset = $1 ORDER BY o._id
"""
_STATES = """
SELECT s.band, s.object, s.n, s.n_blind, s.flux_mean, s.flux_mean_weighted,
    coalesce(s.flux_mean_weighted_err, 'NaN'), s.flux_std, s.flux_min, s.flux_max, s.eta,
    (extract(epoch FROM s.last_seen) * 1000000)::bigint
FROM object_state AS s JOIN object AS o ON o._id = s.object WHERE o.dataset = $1
"""
_IMAGES = """
SELECT i._id, (extract(epoch FROM i.t) * 1000000)::bigint, l.low, l.high, l.late::integer, dense_rank() OVER (
    ORDER BY band, coalesce(stokes, ''), md5(wcs), nx, ny, coalesce(radius_deg, -1), margin_px,
        coalesce(beam_minor_deg, -1)
) - 1
FROM image AS i JOIN image_limit AS l USING (_id)
WHERE i.dataset = $1 AND i.t IS NOT NULL AND i.wcs IS NOT NULL AND i.nx IS NOT NULL AND i.band IS NOT NULL
ORDER BY i.t, i._id
"""
_POINTINGS = """
SELECT _id, band, stokes, wcs, nx, ny, radius_deg, margin_px, beam_major_deg, beam_minor_deg, beam_pa_deg
FROM image WHERE _id = ANY($1)
"""
_BAND_STOKES = """
SELECT DISTINCT ON (band) band, stokes FROM image
WHERE dataset = $1 AND band IS NOT NULL AND NOT rejected GROUP BY band, stokes ORDER BY band, count(*) DESC, stokes
"""
_WITHOUT_LIMITS = """
SELECT count(*) FROM image WHERE dataset = $1 AND NOT rejected AND _id NOT IN (SELECT _id FROM image_limit)
"""
_NEWEST_POINTS = """
SELECT p._id, p.object, p.image, (extract(epoch FROM p.t) * 1000000)::bigint, p.flux_int, p.flux_int_err,
    array_position($4::text[], p.band) - 1
FROM object_state AS s JOIN object AS o ON o._id = s.object CROSS JOIN LATERAL (
    SELECT * FROM measurement AS m
    WHERE m.object = s.object AND m.band = s.band AND (m.kind = 0 OR $3)
        AND m.flux_int_err > 0 AND m.flux_int <> 'NaN'
    ORDER BY m.t DESC, m._id DESC LIMIT $2
) AS p
WHERE o.dataset = $1 AND p.band = ANY($4) ORDER BY p.t, p.image
"""
_IS_MEASURED = """
SELECT EXISTS (
    SELECT FROM image AS i JOIN measurement AS p ON p.t = i.t AND p.image = i._id
    WHERE i._id = $1 AND p.object = $2 AND p.kind = $3
)
"""
_STORED_UNTIL = """
SELECT coalesce(max(seq), 0) FROM reader_position
WHERE channel = 'lightcurves' AND partition = $1 AND reader LIKE 'database\\_dumper%'
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of a dataset.

    Attributes
    ----------
    objects
        Rows of `OBJECT`, in the order of their ids.
    states
        Rows of `STATE` by name of the band.
    stokes
        Stokes parameter of each band.
    images
        Rows of `IMAGE`, of those that were measured and folded, in the order of time.
    pointings
        One image for each number of a pointing.
    without_limits
        Images that are neither rejected nor among `images`.
    points
        Rows of `POINT`, the newest of each object in the order of time; none when no history is kept.
    """

    dataset: str
    objects: Rows
    states: Mapping[str, Rows]
    stokes: Mapping[str, str]
    images: Rows
    pointings: Sequence[Image]
    without_limits: int
    points: Rows


async def stored_until(con: Connection, partition: str) -> int:
    """Return the number of the first record of a partition of `lightcurves` that is not in the store."""
    return int(await con.fetchval(_STORED_UNTIL, partition))


async def is_measured(con: Connection, image_id: bytes, object_id: bytes, kind: int) -> bool:
    """Return whether an object has a point of some kind in an image, as long as points are kept as measured."""
    return bool(await con.fetchval(_IS_MEASURED, UUID(bytes=image_id), UUID(bytes=object_id), kind))


async def read_stored(con: Connection, history_points: int, *, forced: bool) -> list[Stored]:
    """Return what the store knows of each dataset. The connection is in a transaction.

    Parameters
    ----------
    con
        Reads as of one moment.
    history_points
        Newest points wanted of each object and band; 0: none.
    forced
        Whether forced points are among these.
    """
    datasets = await con.fetch("SELECT _id, name FROM dataset ORDER BY name")
    return [await _read(con, row["_id"], row["name"], history_points, forced=forced) for row in datasets]


async def _read(con: Connection, key: Any, name: str, history_points: int, *, forced: bool) -> Stored:
    objects = await _rows(con, OBJECT, _OBJECTS, key)
    stokes = {row["band"]: row["stokes"] or "" for row in await con.fetch(_BAND_STOKES, key)}
    states = {band: await _states(con, key, band) for band in await _bands(con, key)}
    images = await _rows(con, IMAGE, _IMAGES, key)
    points = np.zeros(0, POINT)
    if history_points:
        points = await _rows(
            con, POINT, _NEWEST_POINTS, key, history_points * max(len(states), 1), forced, list(states)
        )
    without = int(await con.fetchval(_WITHOUT_LIMITS, key))
    return Stored(name, objects, states, stokes, images, await _pointings(con, images), without, points)


async def _bands(con: Connection, key: Any) -> list[str]:
    rows = await con.fetch(f"SELECT DISTINCT band FROM ({_STATES}) AS rows ORDER BY band", key)  # noqa: S608
    return [row["band"] for row in rows]


async def _states(con: Connection, key: Any, band: str) -> Rows:
    columns = _STATES.replace("SELECT s.band, ", "SELECT ") + " AND s.band = $2 ORDER BY s.object"
    return await _rows(con, STATE, columns, key, band)


async def _pointings(con: Connection, images: Rows) -> list[Image]:
    """Return one image of each pointing, in the order of their numbers."""
    _, first = np.unique(images["pointing"], return_index=True)
    ids = array_to_ids(images["image_id"][first])
    rows = await con.fetch(_POINTINGS, [UUID(bytes=id_) for id_ in ids])
    found = {row["_id"].bytes: row for row in rows}
    return [_image(found[id_]) for id_ in ids]


def _image(row: Any) -> Image:
    beam = None
    if row["beam_minor_deg"] is not None:
        beam = Beam(row["beam_major_deg"], row["beam_minor_deg"], row["beam_pa_deg"])
    return Image(
        id=row["_id"].bytes,
        band=Band(row["band"]),
        stokes=row["stokes"],
        wcs=row["wcs"],
        shape=(row["ny"], row["nx"]),
        radius_deg=row["radius_deg"],
        margin_px=row["margin_px"],
        beam=beam,
    )


async def _rows(con: Connection, dtype: np.dtype[Any], query: str, *arguments: Any) -> Rows:
    """Return the rows of a query as a structured array; of ids the bytes, zeros when NULL."""
    names = dtype.names or ()
    ids = [i for i, name in enumerate(names) if dtype[name].shape == (16,)]
    # Bytes become a field of bytes only; both types are the same in memory.
    plain = np.dtype([(name, "V16" if dtype[name].shape else dtype[name]) for name in names])
    parts, rows = [np.zeros(0, plain)], list[tuple[Any, ...]]()
    async for record in con.cursor(query, *arguments, prefetch=_AT_ONCE):
        values = list(record)
        for i in ids:
            values[i] = _NOBODY if values[i] is None else values[i].bytes
        rows.append(tuple(values))
        if len(rows) == _AT_ONCE:
            parts.append(np.array(rows, plain))
            rows.clear()
    return np.concatenate([*parts, np.array(rows, plain)]).view(dtype)
