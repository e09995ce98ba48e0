"""`flat`: the time that the dumper takes per image in a full store against an empty one. `read`: the same for readers.

A store is filled by the server itself, in the order of time, as many images would have left it: one star that is often
seen, and objects that take turns. Its rows are like those of the dumper, with keys that begin with their time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import lightcurve_messages as mesh
from bench.harness import Comparison, Note, Size, Target, in_pairs, percentile
from trapline.common.channel import Record
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.relay.requests import Cursor
from trapline.common.store import cone, lightcurve
from trapline.common.store.bins import WIDTHS_US
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.database_dumper.partitions import make_partitions, moment
from trapline.database_dumper.service import LightcurveStore
from trapline.schemas.message import encode

_DAY_US = WIDTHS_US["day"]
_START_US = mesh.START_US // _DAY_US * _DAY_US - 400 * _DAY_US
_PER_PARTITION = 5_000_000
_DATASET = mesh.ids.fact_id(0, "dataset", "default").hex()


@dataclass(frozen=True, slots=True)
class Fill:
    """How much a store holds. `star` points are of one object, which is the first."""

    points: int
    objects: int
    star: int


@dataclass(frozen=True, slots=True)
class _Sizes:
    full: Fill
    less: Fill
    pairs: int
    objects_per_image: int


SIZES: dict[Size, _Sizes] = {
    "small": _Sizes(Fill(300_000, 5_000, 2_000), Fill(30_000, 500, 2_000), 10, 500),
    "full": _Sizes(Fill(100_000_000, 1_000_000, 100_000), Fill(1_000_000, 10_000, 100_000), 30, 10_000),
}

_OBJECTS = """
INSERT INTO object (_id, dataset, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, first_seen, last_seen, kind)
SELECT ('018bcfe5-687b-8000-8000-' || lpad(to_hex(k), 12, '0'))::uuid, $2::uuid, random() * 360,
    degrees(asin(2 * random() - 1)), 0.01, 0.01, $3, $3, 0
FROM generate_series(0, $1::integer - 1) AS k
"""
_STATES = """
INSERT INTO object_state SELECT _id, _id, 1, 1, 1, 1, 1, 0, 0, last_seen, 1, 1, $1, 'Jy' FROM object
"""
_POINTS = """
INSERT INTO point
SELECT (lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') || '8' || substr(md5(i::text), 1, 19))::uuid,
    ('018bcfe5-687b-8000-8000-' || lpad(to_hex(CASE WHEN i % $5 = 0 THEN 0 ELSE 1 + i % ($4 - 1) END), 12, '0'))::uuid,
    '018bcfe5-687b-8000-8000-000000000000', '018bcfe5-687b-8000-8000-000000000000', t, 1, 2, 0.1, 0.1, 10, 1, 10, 1, 0,
    1, 10, 0.5, 0, 1, 0, 0, $6
FROM generate_series($1::bigint, $2::bigint - 1) AS i, LATERAL (
    SELECT $3::timestamptz + i * interval '1 microsecond' * $7::double precision AS t
) AS at
"""


def flat(size: Size) -> list[Comparison]:
    """Compare the time per image of the dumper with many stored points and known objects to that with none."""
    sizes = SIZES[size]
    with _stores(sizes.full, Fill(0, sizes.full.objects, 0)) as (run, full, empty):
        writers = [_Writer(database, sizes.objects_per_image) for database in (full, empty)]
        ours, baseline = in_pairs(*(lambda w=w: run(w.image()) for w in writers), pairs=sizes.pairs, warm_up=3)
        notes = run(_notes(full))
    case = f"{sizes.full.points:.0e} points, {sizes.full.objects:.0e} objects"
    return [Comparison(case, "s/image", ours, baseline, Target("<=", 1.05), notes)]


def read(size: Size) -> list[Comparison]:
    """Compare reading a whole lightcurve and a cone in a full store to the same in a hundredth of it."""
    sizes = SIZES[size]
    star = bytes.fromhex("018bcfe5687b80008000000000000000")
    questions: dict[str, Callable[[Connection], Coroutine[Any, Any, Any]]] = {
        f"a lightcurve of {sizes.full.star:.0e} points": lambda con: lightcurve(con, star, resolution="point"),
        "a lightcurve, at most 1,000 rows": lambda con: lightcurve(con, star, most=1000),
        "a cone": lambda con: cone(con, np.random.default_rng().uniform(0, 360), 10.0, 0.5),
    }
    with _stores(sizes.full, sizes.less) as (run, full, less):
        found = []
        for case, question in questions.items():
            askers = [partial(_run_timed, run, database, question) for database in (full, less)]
            ours, baseline = in_pairs(*askers, pairs=sizes.pairs, warm_up=2)
            notes: dict[str, Note] = {"p95": f"{1000 * percentile(ours, 95):.1f} ms"}
            found.append(Comparison(case, "s", ours, baseline, Target("<=", 1.5), notes))
    return found


class _stores(ExitStack):  # noqa: N801  used as a function
    """Two filled stores on one durable server, and a way to run coroutines."""

    def __init__(self, *fills: Fill) -> None:
        super().__init__()
        self._fills = fills

    def __enter__(self) -> Any:
        super().__enter__()
        cluster: Cluster = self.enter_context(temporary_cluster(durable=True))
        runner = self.enter_context(asyncio.Runner())
        stack = AsyncExitStack()
        self.callback(lambda: runner.run(stack.aclose()))
        databases = []
        for fill in self._fills:
            dsn = self.enter_context(fresh_database(cluster))
            databases.append(runner.run(filled(stack, dsn, fill)))
        # Tables are dropped with their databases when all connections are closed.
        self.callback(lambda: runner.run(stack.aclose()))
        return runner.run, *databases


async def filled(stack: AsyncExitStack, dsn: str, fill: Fill) -> Database:
    """Open a database, fill it, and let the server tidy up."""
    database = await stack.enter_async_context(open_database(dsn))
    async with database.connection() as con:
        await con.execute("SET statement_timeout = 0")
        start = moment(_START_US)
        await con.execute("INSERT INTO dataset VALUES ($1::uuid, 'default')", _DATASET)
        await con.execute(_OBJECTS, fill.objects, _DATASET, start)
        await con.execute(_STATES, mesh.BAND.name)
        if fill.points:
            await _fill_points(con, fill)
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            await con.execute(statement)
    return database


async def _fill_points(con: Connection, fill: Fill) -> None:
    """Fill days with at most five million points each, the newest one half."""
    days = -(-fill.points // _PER_PARTITION)
    step_us = days * _DAY_US / fill.points
    await make_partitions(con, "point", _DAY_US, [_START_US + day * _DAY_US for day in range(days)])
    for first in range(0, fill.points, _PER_PARTITION):
        end = min(first + _PER_PARTITION, fill.points)
        await con.execute(_POINTS, first, end, moment(_START_US), fill.objects, fill.points // fill.star,
                          mesh.BAND.name, step_us)  # fmt: skip


class _Writer:
    """Stores image after image, as the dumper does."""

    def __init__(self, database: Database, objects: int) -> None:
        self._store = LightcurveStore(database, "bench")
        self._objects = [bytes.fromhex(f"018bcfe5687b80008000{k:012x}") for k in range(objects)]
        self._number = 0

    async def image(self) -> float:
        self._number += 1
        messages = (mesh.images_message(self._number), mesh.lightcurves_message(self._number, self._objects))
        records = [
            Record(mesh.place(channel, self._number), 0, [bytes(frame) for frame in encode(message)])
            for channel, message in zip(("images", "lightcurves"), messages, strict=True)
        ]
        behind = [Cursor(r.place.channel, "0", r.place.seq + 1, 0) for r in records]
        start = time.perf_counter()
        await self._store.store(records, behind)
        return time.perf_counter() - start


def _run_timed(run: Any, database: Database, question: Any) -> float:
    seconds: float = run(_timed(database, question))
    return seconds


async def _timed(database: Database, question: Callable[[Connection], Coroutine[Any, Any, Any]]) -> float:
    async with database.connection() as con:
        start = time.perf_counter()
        await question(con)
        return time.perf_counter() - start


async def _notes(database: Database) -> dict[str, Note]:
    """Return bytes per row on disk, keys and indexes included."""
    async with database.connection() as con:
        row = await con.fetchrow(
            "SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'point'::regclass)"
            " / (SELECT count(*) FROM point) AS point"
        )
    assert row is not None
    return {"bytes per point": round(float(row["point"]))}
