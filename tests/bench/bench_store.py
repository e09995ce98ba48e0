"""`store`: the dumper's points per second, with all other rows and its read position committed.

The baseline copies the same columns of the same points, encoded before the clock runs, into one table with the keys and
indexes of `point`, in transactions of the same size on the same durable server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg

import lightcurve_messages as mesh
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs
from trapline.common.channel import Record
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import open_database
from trapline.common.relay.requests import Cursor
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.database_dumper.binary_copy import HEADER, TRAILER
from trapline.database_dumper.core import Copied, rows_of, tables_of
from trapline.database_dumper.service import LightcurveStore
from trapline.schemas.message import Message, encode

_TARGET = Target(">=", 0.6)


@dataclass(frozen=True, slots=True)
class _Load:
    """What a batch of the dumper holds, and how many are compared."""

    images: int
    objects: int
    pairs: int
    target: Target | None = _TARGET


_LOADS: dict[Size, tuple[_Load, ...]] = {
    "small": (_Load(4, 200, 5),),
    "full": (_Load(20, 1000, 20), _Load(1, 10_000, 20, None), _Load(2, 100, 20, None)),
}


def store(size: Size) -> list[Comparison]:
    """Compare points/s of a dumper that has much to do; batches with one point per object are reported only."""
    with temporary_cluster(durable=True) as cluster:
        return [_compare(load, cluster) for load in _LOADS[size]]


def _compare(load: _Load, cluster: Cluster) -> Comparison:
    with fresh_database(cluster) as dsn, ExitStack() as closing:
        runner = closing.enter_context(asyncio.Runner())
        stack = AsyncExitStack()
        closing.callback(lambda: runner.run(stack.aclose()))
        both = runner.run(_open(load, dsn, stack))
        values = in_pairs(lambda: runner.run(both.dumped()), lambda: runner.run(both.copied()), load.pairs)
        notes = runner.run(both.check(load.images * load.objects * (1 + load.pairs)))
    case = f"{load.images} images of {load.objects:,} objects a batch"
    return Comparison(case, "points/s", *values, load.target, notes)


@dataclass(slots=True)
class _Both:
    """The dumper's store, and a table beside it; each is given the same batches."""

    load: _Load
    store: LightcurveStore
    con: asyncpg.Connection[asyncpg.Record]
    objects: list[bytes]
    n_dumped: int = 0
    n_copied: int = 0

    async def dumped(self) -> float:
        """Store a batch as the dumper does, from the frames of its records to the commit."""
        self.n_dumped += 1
        records = [
            Record(mesh.place(channel, seq), 0, [bytes(frame) for frame in encode(message)])
            for channel, seq, message in self._batch(self.n_dumped - 1)
        ]
        behind = {r.place.channel: Cursor(r.place.channel, "0", r.place.seq + 1, 0) for r in records}
        start = time.perf_counter()
        await self.store.store(records, list(behind.values()))
        return self.load.images * self.load.objects / (time.perf_counter() - start)

    async def copied(self) -> float:
        """Copy the points of a batch."""
        self.n_copied += 1
        rows = [rows_of(mesh.place(channel, seq), m) for channel, seq, m in self._batch(self.n_copied - 1)]
        points = tables_of(rows).points
        start = time.perf_counter()
        await self.con.copy_to_table("bare", source=_pieces(points), columns=points.columns, format="binary")
        return self.load.images * self.load.objects / (time.perf_counter() - start)

    async def check(self, points: int) -> dict[str, Note]:
        """Return what is stored, or raise when that is not what was given."""
        row = await self.con.fetchrow("SELECT (SELECT count(*) FROM point), (SELECT count(*) FROM bare)")
        if row is None or tuple(row) != (points, points):
            raise InvalidRunError(f"the tables hold {row}, not {points} points each")
        return {"points in each table at the end": points}

    def _batch(self, number: int) -> Iterator[tuple[str, int, Message[Any]]]:
        for image in range(number * self.load.images, (number + 1) * self.load.images):
            yield "images", image, mesh.images_message(image)
            yield "lightcurves", image, mesh.lightcurves_message(image, self.objects)
        yield "transients", number, mesh.event(image, self.objects[0])


async def _open(load: _Load, dsn: str, stack: AsyncExitStack) -> _Both:
    database = await stack.enter_async_context(open_database(dsn))
    con = await asyncpg.connect(dsn)
    stack.push_async_callback(con.close)
    await con.execute("CREATE TABLE bare (LIKE point INCLUDING ALL)")
    return _Both(load, LightcurveStore(database, "bench"), con, mesh.object_ids(load.objects))


async def _pieces(points: Copied) -> AsyncIterator[bytes]:
    yield HEADER
    for piece in points.pieces:
        yield piece
    yield TRAILER
