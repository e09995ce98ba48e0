"""Partitions come before they are needed and go when they are old; nothing that is binned depends on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np
import pytest

import lightcurve_messages as mesh
from bins_of_messages import assert_same, expected, lightcurve, records, stored
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.database_dumper.binary_copy import MAX_T_US, MIN_T_US
from trapline.database_dumper.binning import Binning, tiers
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.partitions import (
    DAY_US,
    Partition,
    fitting,
    make_partitions,
    microseconds,
    moment,
    partitions_of,
)
from trapline.database_dumper.retention import maintain
from trapline.database_dumper.store import store_batch

READER = "test"
START = mesh.START_US // DAY_US * DAY_US


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn) as opened:
        yield opened


@pytest.fixture
async def con(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as lent:
        yield lent


def keeping(days: float, **more: Any) -> Binning:
    return Binning(DumperConfig(keep_points_s=days * 86_400, **more))


def nights(count: int, objects: int = 3) -> list[Any]:
    rng = np.random.default_rng(count)
    return [lightcurve(START + d * DAY_US + s * 1_000_000, mesh.object_ids(objects), rng)
            for d in range(count) for s in (5, 6, 65)]  # fmt: skip


async def test_old_partitions_go_and_new_ones_wait(con: Connection) -> None:
    messages, binning = nights(6), keeping(2)
    await store_batch(con, READER, records(messages), binning=binning)
    assert len(await partitions_of(con, "point")) == 6
    assert await maintain(con, binning) == 3
    parts = await partitions_of(con, "point")
    assert [p.start for p in parts] == [START + d * DAY_US for d in (3, 4, 5, 6)], "and one that is empty yet"
    assert (await tiers(con))["point"] == START + 3 * DAY_US
    assert await con.fetchval("SELECT min(t) FROM point") >= moment(START + 3 * DAY_US)
    assert await maintain(con, binning) == 0
    await store_batch(con, READER, records(nights(7)[18:], 100), binning=binning)
    assert_same(await stored(con, "day"), expected(nights(6) + nights(7)[18:], "day", START + 6 * DAY_US))


async def test_late_points_after_retention_are_in_bins_only(con: Connection) -> None:
    messages, binning = nights(6), keeping(2)
    await store_batch(con, READER, records(messages), binning=binning)
    await maintain(con, binning)
    n = await con.fetchval("SELECT count(*) FROM point")
    late = [lightcurve(START + DAY_US + 30_000_000, mesh.object_ids(3), np.random.default_rng(1))]
    for memory in (binning, None):
        await store_batch(con, READER, records(late, 50 if memory else 60), binning=memory)
    assert await con.fetchval("SELECT count(*) FROM point") == n
    day = {k: v for k, v in (await stored(con, "day")).items() if k[2] == START + DAY_US}
    twice = [
        *messages[3:6],
        *late,
        lightcurve(START + DAY_US + 30_000_000, mesh.object_ids(3), np.random.default_rng(1)),
    ]
    once = expected(twice, "day")
    assert {k: v[5] for k, v in day.items()} == {k: v[5] + 1 for k, v in once.items()}, "said twice: no one can tell"


async def test_other_datasets_are_binned_before_their_points_go(con: Connection) -> None:
    rng, binning = np.random.default_rng(4), keeping(2)
    ended = [lightcurve(START + s * 1_000_000, mesh.object_ids(2), rng, dataset="ended") for s in (5, 20)]
    await store_batch(con, READER, records([*ended, *nights(6)]), binning=binning)
    assert await maintain(con, Binning(binning.config)) == 3
    wanted = expected([*ended, *nights(6)[:9]], "minute")
    found = {k: v for k, v in (await stored(con, "minute")).items() if k[2] < START + 3 * DAY_US}
    assert len(found) == len(wanted)
    await store_batch(con, READER, records(nights(6), 90))
    assert sum(v[5] for v in (await stored(con, "day")).values()) >= sum(v[5] for v in wanted.values())


@pytest.mark.parametrize(
    "times",
    [
        ("2025-12-31T23:59:59.999999", "2026-01-01T00:00:00"),
        ("2016-12-31T23:59:59.999999", "2017-01-01T00:00:00"),
        ("2024-02-28T23:59:59", "2024-02-29T12:00:00", "2024-03-01T00:00:00"),
        ("1969-12-31T23:59:59.999999", "1970-01-01T00:00:00"),
        ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"),
    ],
    ids=["year end", "leap second", "leap day", "epoch", "all time"],
)
async def test_points_at_the_edges_of_time_have_a_partition(con: Connection, times: tuple[str, ...]) -> None:
    wanted = [datetime.fromisoformat(t).replace(tzinfo=UTC) for t in times]
    rng = np.random.default_rng(5)
    messages = [lightcurve(microseconds(t), mesh.object_ids(2), rng) for t in wanted]
    await store_batch(con, READER, records(messages))
    assert [row["t"] for row in await con.fetch("SELECT DISTINCT t FROM point ORDER BY t")] == wanted
    for part in await partitions_of(con, "point"):
        assert part.name == f"point_{moment(max(part.start, MIN_T_US)).isoformat().replace('-', '')[:8]}_000000"


async def test_a_reader_holds_up_neither_rows_nor_partitions(con: Connection, database: Database) -> None:
    binning = keeping(2)
    await store_batch(con, READER, records(nights(6)), binning=binning)
    async with database.connection() as reader, reader.transaction():
        assert await reader.fetchval("SELECT count(*) FROM point") == 54
        await store_batch(con, READER, records(nights(8)[18:], 50), binning=binning)
        await con.execute("SET lock_timeout = 200")
        assert await maintain(con, binning) == 0, "what is being read is not dropped"
        assert await con.fetchval("SELECT max(t) FROM point") > moment(START + 7 * DAY_US)
        half = await partitions_of(con, "point")
    dropped = await maintain(con, binning)
    while len(await partitions_of(con, "point")) > 4:
        dropped += await maintain(con, binning)
    assert dropped == 5, half
    assert not await con.fetchval("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")


async def test_what_a_killed_process_began_is_finished(con: Connection) -> None:
    binning = keeping(2)
    await store_batch(con, READER, records(nights(6)), binning=binning)
    first = (await partitions_of(con, "point"))[0]
    await con.execute(f"ALTER TABLE point DETACH PARTITION {first.name}")
    assert await maintain(con, binning) == 3
    assert not await con.fetchval("SELECT to_regclass($1)", first.name)


async def test_of_two_that_make_a_partition_one_does(database: Database) -> None:
    async def make() -> int:
        async with database.connection() as con, con.transaction():
            return len(await make_partitions(con, "point", DAY_US, [START, START + 5]))

    assert await asyncio.gather(*(make() for _ in range(4))) == [1] * 4


def test_a_partition_fits_between_others() -> None:
    assert fitting([], "point", DAY_US, START + 5) == Partition(START, START + DAY_US, "point_20231114_000000")
    hour = 3_600_000_000
    others = [Partition(START, START + 2 * hour), Partition(START + 5 * hour, START + 6 * hour)]
    between = fitting(others, "point", DAY_US, START + 3 * hour)
    assert (between.start, between.end, between.name) == (START + 2 * hour, START + 5 * hour, "point_20231114_020000")
    assert fitting(others, "point", DAY_US, START + 7 * hour).start == START + 6 * hour
    assert fitting([], "point", DAY_US, MAX_T_US).end > MAX_T_US


async def test_everything_is_kept_for_ever_when_told_so(con: Connection) -> None:
    binning = Binning(DumperConfig(keep_points_s=0, keep_minutes_s=0))
    await store_batch(con, READER, records(nights(6)), binning=binning)
    assert await maintain(con, binning) == 0
    with pytest.raises(asyncpg.PostgresError, match="no partition"):
        await con.execute("INSERT INTO bin_day SELECT gen_random_uuid(), gen_random_uuid(), '1900-01-01', 1, 1, 1, 1, "
                          "1, 1, 1, ''")  # fmt: skip
