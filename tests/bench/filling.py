"""A store as years of images would have left it, made quickly: segments of all days but the last, and bins of some.

Each day is another field, whose objects are seen at each of its images; one star is seen on all days. Segments come
from the functions of the dumper and through its COPY, on two connections, into tables that have all their indexes; only
the rows of the last day are made by the server itself. Fluxes and positions are random in all their digits, so that
nothing is compressed that would not be in truth; errors of positions are those of a systematic error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lightcurve_messages as mesh
from trapline.common.postgres.connection import Connection, Database
from trapline.common.store.bins import WIDTHS_US, bins_of_points, merged
from trapline.common.store.segments import ARRAYS
from trapline.database_dumper.binary_copy import Column, encode_rows
from trapline.database_dumper.copying import copy
from trapline.database_dumper.core import Copied
from trapline.database_dumper.intervals import DROPPED
from trapline.database_dumper.lightcurve_rows import bin_fields
from trapline.database_dumper.partitions import BIN_WIDTHS_US, make_partitions, moment
from trapline.database_dumper.segment_rows import segments_of

DAY_US = WIDTHS_US["day"]
END_US = mesh.START_US // DAY_US * DAY_US
"""The last day begins here; the dumper goes on in it."""
PER_DAY = 5_000_000
DATASET = mesh.ids.fact_id(0, "dataset", "default").hex()

_SYSTEMATIC = ("pos_err_ew_deg", "pos_err_ns_deg")
_AT_ONCE = 400_000
_WITH_BINS = 1000
_OBJECT = "018bcfe5687b80008000"
_NOTHING = "018bcfe5-687b-8000-8000-000000000000"

_OBJECTS = """
INSERT INTO object (_id, dataset, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, first_seen, last_seen, kind)
SELECT ('018bcfe5-687b-8000-8000-' || lpad(to_hex(k), 12, '0'))::uuid, $2::uuid, random() * 360,
    degrees(asin(2 * random() - 1)), 0.01, 0.01, $3, $3, 0
FROM generate_series(0, $1::integer - 1) AS k
"""
_STATES = """
INSERT INTO object_state SELECT _id, _id, 1, 1, 1, 1, 1, 0, 0, last_seen, 1, 1, $1, 'Jy' FROM object
"""
_POINTS = f"""
INSERT INTO point
SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '8' || substr(md5(i::text), 1, 19))::uuid,
    ('018bcfe5-687b-8000-8000-' || lpad(to_hex(CASE WHEN i % $4 = 0 THEN 0 ELSE 1 + i % ($3 - 1) END), 12, '0'))::uuid,
    '{_NOTHING}', '{_NOTHING}', t, random(), random(), 0.1, 0.1, random(), 1, random(), 1, 0, 1, 10, 0.5, 0, 1, 0, 0, $5
FROM generate_series(0, $1::bigint - 1) AS i, LATERAL (
    SELECT $2::timestamptz + i * interval '1 microsecond' * $6::double precision AS t
) AS at
"""
_CLOSED = "INSERT INTO closed_interval (_id, since, until, state) VALUES (gen_random_uuid(), $1, $2, $3)"
_BINNING = """
INSERT INTO binning (_id, dataset, newest, minute, hour, day, batches) VALUES ($1::uuid, $1::uuid, $2, $2, $3, $4, 0)
"""


@dataclass(frozen=True, slots=True)
class Fill:
    """How much a store holds. `star` points are of one object, which is the first."""

    points: int
    objects: int
    star: int

    @property
    def days(self) -> int:
        """Days with points, of which the last is open."""
        return max(2, -(-self.points // PER_DAY))


async def fill_store(database: Database, fill: Fill) -> None:
    """Fill a store that has tables and nothing else."""
    async with database.connection() as con:
        await con.execute("SET statement_timeout = 0")
        await con.execute("INSERT INTO dataset VALUES ($1::uuid, 'default')", DATASET)
        await con.execute(_OBJECTS, fill.objects, DATASET, moment(END_US - DAY_US))
        await con.execute(_STATES, mesh.BAND.name)
        if fill.points:
            await _fill_points(con, database, fill)
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            await con.execute(statement)


async def _fill_points(con: Connection, database: Database, fill: Fill) -> None:
    start = END_US - (fill.days - 1) * DAY_US
    days = [start + day * DAY_US for day in range(fill.days)]
    await make_partitions(con, "point", DAY_US, days[-1:])
    await make_partitions(con, "segment_detected", 30 * DAY_US, days, unsampled=tuple(ARRAYS))
    for table, width in BIN_WIDTHS_US.items():
        await make_partitions(con, table, width, days)
    await con.execute(_CLOSED, moment(start), moment(END_US), DROPPED)
    marks = (moment(mesh.START_US // width * width) for width in WIDTHS_US.values())
    await con.execute(_BINNING, DATASET, *marks)
    share = fill.points // fill.days
    await asyncio.gather(*(_fill_days(database, fill, days[half:-1:2], half, share) for half in (0, 1)))
    until_us = mesh.START_US - END_US
    await con.execute(_POINTS, share, moment(END_US), fill.objects, max(1, fill.points // fill.star), mesh.BAND.name,
                      until_us / share)  # fmt: skip


async def _fill_days(database: Database, fill: Fill, days: Sequence[int], first: int, share: int) -> None:
    """Fill every second day."""
    of_star, field = fill.star // fill.days, max(1, fill.objects // fill.days)
    each = max(1, (share - of_star) // field)
    async with database.connection() as con:
        await con.execute("SET statement_timeout = 0")
        for number, day in enumerate(days):
            rng = np.random.default_rng(day // DAY_US)
            begin = 1 + (first + 2 * number) * field
            groups = [(np.array([0]), of_star)]
            step = max(1, _AT_ONCE // each)
            groups += [(np.arange(k, min(k + step, begin + field)), each) for k in range(begin, begin + field, step)]
            for objects, n in groups:
                rows, bins = await asyncio.to_thread(_day_of, rng, day, objects, n)
                await copy(con, "segment", rows)
                for table, copied in bins.items():
                    await copy(con, table, copied)


def _day_of(rng: np.random.Generator, day: int, objects: Column, n: int) -> tuple[Copied, Mapping[str, Copied]]:
    """Return the segments of a day of some objects with n points each, and the bins of the first of them."""
    points = _points(rng, day, objects, n)
    rows = segments_of(points, [mesh.BAND.name.encode()], np.zeros(len(points["times"]), bool), [], late=False)
    some = {name: column[np.repeat(objects < _WITH_BINS, n)] for name, column in points.items()}
    bins = {}
    finest = bins_of_points(
        some["object"], 0, some["times"], some["flux_int"], some["flux_int_err"], some["kind"] != 0
    )  # fmt: skip
    for tier, width in WIDTHS_US.items():
        tables = list(bin_fields(merged([finest], width), [mesh.BAND.name.encode()]))
        bins[f"bin_{tier}"] = Copied(tuple(tables[0]) if tables else (), [encode_rows(table) for table in tables])
    return rows, bins


def _points(rng: np.random.Generator, day: int, objects: Column, n: int) -> dict[str, Any]:
    total = n * len(objects)
    times = np.tile(day + np.arange(n) * (DAY_US // n), len(objects))
    points: dict[str, Any] = {"object": np.repeat(_object_ids(objects), n, axis=0), "band": np.zeros(total, np.intp)}
    for name, kind in ARRAYS.items():
        if kind == "id":
            points[name] = _ids(rng, times)
        elif name in _SYSTEMATIC:
            points[name] = np.full(total, 0.1)
        elif kind[0] == "f":
            points[name] = rng.random(total).astype(kind)
        elif kind != "t":
            points[name] = np.zeros(total, kind)
    return {**points, "times": times, "n": np.tile(np.arange(n, dtype=np.int32), len(objects))}


def _ids(rng: np.random.Generator, times: Column) -> Column:
    """Return ids that begin with a time and are random then, as those of facts."""
    ids = rng.integers(0, 256, (len(times), 16), np.uint8)
    ids[:, :6] = (times // 1000).astype(">u8")[:, None].view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6] = ids[:, 6] & 0x0F | 0x80
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80
    return ids


def _object_ids(objects: Column) -> Column:
    tails = np.ascontiguousarray(objects.astype(">u8")).view(np.uint8).reshape(-1, 8)[:, 2:]
    heads = np.tile(np.frombuffer(bytes.fromhex(_OBJECT), np.uint8), (len(objects), 1))
    ids: Column = np.concatenate([heads, tails], axis=1)
    return ids
