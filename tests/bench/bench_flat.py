"""`flat`: the time that the dumper takes per image in a full store against an empty one. `read`: the same for readers.

A store is filled as many images would have left it (see `filling`): segments, bins, and the rows of an open day.
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
from bench.filling import Fill, fill_store
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs, percentile
from trapline.common.channel import Record
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.relay.requests import Cursor
from trapline.common.store import cone, lightcurve
from trapline.common.store.bins import WIDTHS_US
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.service import LightcurveStore
from trapline.schemas.message import encode


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

_BYTES = """
WITH RECURSIVE part AS (
    SELECT $1::text::regclass::oid AS oid
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT sum(pg_total_relation_size(oid)) FROM part
"""
_BIN_COUNTS = tuple((f"bin_{tier}", "count(*)") for tier in WIDTHS_US)


def flat(size: Size) -> list[Comparison]:
    """Compare the time per image of the dumper with many stored points and known objects to that with none."""
    sizes = SIZES[size]
    with _stores(sizes.full, Fill(0, sizes.full.objects, 0)) as (run, full, empty):
        writers = [_Writer(database, sizes.objects_per_image) for database in (full, empty)]
        ours, baseline = in_pairs(*(lambda w=w: run(w.image()) for w in writers), pairs=sizes.pairs, warm_up=3)
        notes = run(_notes(full, sizes.full.points * 9 // 10))
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
    """Open a database, and fill it."""
    database = await stack.enter_async_context(open_database(dsn))
    await fill_store(database, fill)
    return database


class _Writer:
    """Stores image after image, as the dumper does."""

    def __init__(self, database: Database, objects: int) -> None:
        # What is stored is to be there at the end, too.
        self._store = LightcurveStore(database, "bench", Binning(DumperConfig(keep_points_s=0, keep_minutes_s=0)))
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


async def _notes(database: Database, least: int) -> dict[str, Note]:
    """Return bytes per row or point on disk, keys and indexes included, of each resolution that has rows.

    Raises
    ------
    InvalidRunError
        When what was filled in is not there any more.
    """
    notes: dict[str, Note] = {}
    async with database.connection() as con:
        await con.execute("SET statement_timeout = 0")
        counts = {}
        for table, count in (("point", "count(*)"), ("segment", "coalesce(sum(n_points), 0)"), *_BIN_COUNTS):
            n, size = await con.fetchval(f"SELECT {count} FROM {table}"), await con.fetchval(_BYTES, table)
            counts[table] = n
            if n:
                notes[f"bytes per {'point in segment' if table == 'segment' else table}"] = round(float(size / n))
    if counts["point"] + counts["segment"] < least:
        raise InvalidRunError(f"the store holds {counts}, and not {least} points any more")
    return notes
