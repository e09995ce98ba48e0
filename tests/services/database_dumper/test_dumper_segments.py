"""Points of closed intervals are arrays: they are the same points, once, whenever one looks and whatever comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import lightcurve_messages as mesh
from bins_of_messages import assert_same, expected, lightcurve, marks, records, stored
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.store import lightcurve as read_lightcurve
from trapline.common.store.history import history
from trapline.database_dumper.binning import Binning, tiers
from trapline.database_dumper.closing import Closing
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.partitions import DAY_US, moment, partitions_of
from trapline.database_dumper.retention import maintain
from trapline.database_dumper.segment_rows import MOST_POINTS
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind
from trapline.schemas.image import Band

READER = "test"
START = mesh.START_US // DAY_US * DAY_US
OBJECTS = mesh.object_ids(4)
BANDS = (Band("a"), Band(""), Band("a longer name of a band"))


@pytest.fixture
async def database(any_dsn: str) -> AsyncIterator[Database]:
    """On each kind of server."""
    async with open_database(any_dsn) as opened:
        yield opened


@pytest.fixture
async def con(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as lent:
        yield lent


def nights(count: int, seed: int = 1, **header: Any) -> list[Any]:
    """Seven images a day in three bands, each with some of the objects."""
    rng = np.random.default_rng(seed)
    return [lightcurve(START + d * DAY_US + s * 5_000_000, OBJECTS[: int(rng.integers(1, 5))], rng, band=BANDS[s % 3],
                       kind=int(rng.integers(0, 2)), **header) for d in range(count) for s in range(7)]  # fmt: skip


def closing(**settings: Any) -> tuple[Closing, Binning]:
    config = DumperConfig(**{"segment_after_s": 10, **settings})
    return Closing(config), Binning(config)


async def all_points(con: Connection) -> list[tuple[Any, ...]]:
    rows = await con.fetch("SELECT * FROM measurement")
    assert len({row["_id"] for row in rows}) == len(rows), "each once"
    return sorted(map(repr, (tuple(row) for row in rows)))


async def readings(con: Connection) -> list[Any]:
    """What readers are told of all objects, as values that can be compared."""
    found = await history(con, OBJECTS)
    curves = [await read_lightcurve(con, target, resolution="point") for target in OBJECTS]
    few = await read_lightcurve(con, OBJECTS[0], "a", resolution="auto", most=5)
    return [repr(sorted((k, v.tolist()) for k, v in c.columns.items())) for c in (found, *curves, few)]


async def close_all(con: Connection, closing: Closing, rows: int = 1000) -> None:
    await closing.maintain(con)
    while await closing.step(con, rows):
        pass


@pytest.mark.parametrize("rows", [1, 5, 1000])
async def test_points_are_the_same_at_any_stage(con: Connection, rows: int) -> None:
    messages = nights(3)
    close, binning = closing()
    await store_batch(con, READER, records(messages), binning=binning)
    before, told = await all_points(con), await readings(con)
    await close.maintain(con)
    steps = 0
    while await close.step(con, rows):
        steps += 1
        if steps % 4 == 0:
            assert await all_points(con) == before
            assert await readings(con) == told
    assert await con.fetchval("SELECT sum(n_points) FROM segment") == sum(len(m.arrays["kind"]) for m in messages[:14])
    assert await close.maintain(con) == 0, "readers that began before may still be there"
    assert await close.maintain(con) == 2
    assert await all_points(con) == before and await readings(con) == told
    assert len(await partitions_of(con, "point")) == 1
    assert await con.fetchval("SELECT count(*) FROM closed_interval") == 1, "one of those that follow each other"


async def test_a_segment_is_of_one_object_and_band_and_of_limited_length(con: Connection) -> None:
    rng = np.random.default_rng(2)
    messages = [lightcurve(START + i * 1_000_000, OBJECTS[:1], rng, band=BANDS[i // 1500]) for i in range(3000)]
    close, binning = closing()
    await store_batch(con, READER, records([*messages, *nights(2)[7:]]), binning=binning)
    before = await all_points(con)
    await close_all(con, close, 100_000)
    rows = await con.fetch("SELECT * FROM segment ORDER BY t")
    assert [row["n_points"] for row in rows] == [MOST_POINTS, 1500 - MOST_POINTS] * 2
    for row in rows:
        assert (row["t"], row["t_last"], row["_id"]) == (row["times"][0], row["times"][-1], row["point"][0])
        assert row["times"] == sorted(row["times"]) and len(row["flux_int"]) == row["n_points"]
    assert await all_points(con) == before


@pytest.mark.parametrize("stage", ["sealed", "half", "written", "dropped"])
async def test_what_comes_late_is_there_once_at_any_stage(con: Connection, stage: str) -> None:
    messages = nights(3)
    close, binning = closing()
    await store_batch(con, READER, records(messages), binning=binning)
    await close.maintain(con)
    await close.step(con)
    if stage == "half":
        await close.step(con, 7)
    elif stage != "sealed":
        await close_all(con, close)
        if stage == "dropped":
            await close.maintain(con)
            await close.maintain(con)
            assert len(await partitions_of(con, "point")) == 1
    late = [lightcurve(START + 500_000 + i, OBJECTS, np.random.default_rng(7), band=BANDS[i]) for i in range(2)]
    before = await all_points(con)
    # Late ones, and what was stored long ago, said once more, in one record and in the next.
    again = [*late, *messages[:3], late[0]]
    for first, memory in ((200, binning), (300, None)):
        await store_batch(con, READER, records(again, first), binning=memory)
        assert len(await all_points(con)) == len(before) + 8
    await close_all(con, close)
    await close.maintain(con)
    await close.maintain(con)
    after = await all_points(con)
    assert len(after) == len(before) + 8 and set(before) < set(after)
    closed = await marks(con)
    for tier in ("minute", "hour"):
        assert_same(await stored(con, tier), expected([*messages, *late], tier, closed[tier]))
    curve = await read_lightcurve(con, OBJECTS[2], resolution="day")
    assert curve.columns["n_points"].sum() == sum(
        np.isfinite(m.arrays["flux_int"][2]) for m in [*messages, *late] if len(m.arrays["kind"]) > 2
    )


async def test_a_dataset_of_closed_times_is_binned_from_segments_after_a_restart(con: Connection) -> None:
    close, binning = closing()
    await store_batch(con, READER, records(nights(3)), binning=binning)
    await close_all(con, close)
    old = [lightcurve(START + i * 20_000_000, mesh.object_ids(3, 5), np.random.default_rng(i), dataset="old")
           for i in range(12)]  # fmt: skip
    for i, message in enumerate(old):
        await store_batch(con, READER, records([message], 500 + i), binning=None)
    dataset = await con.fetchval("SELECT _id FROM dataset WHERE name = 'old'")
    found = {k: v for k, v in (await stored(con, "minute")).items() if k[1] == old[0].header.image.band.name}
    assert_same(found, expected(old, "minute", (await marks(con, dataset))["minute"]))
    assert found


async def test_retention_drops_segments_and_keeps_what_is_watched(con: Connection) -> None:
    close, binning = closing(keep_points_s=2 * 86_400, keep_monitored_points_s=5 * 86_400)
    rng, (watched, other) = np.random.default_rng(3), mesh.object_ids(2, 9)
    messages = [
        lightcurve(START + d * DAY_US + i, [target], rng, kind=kind)
        for d in range(9)
        for i, (target, kind) in enumerate(((watched, Kind.MONITORED), (other, Kind.BLIND)))
    ]
    await store_batch(con, READER, records(messages), binning=binning)
    assert await maintain(con, binning) == 0, "rows of what is watched wait for their segments"
    assert await con.fetchval("SELECT count(*) FROM measurement") == 18
    await close_all(con, close)
    assert await maintain(con, binning) > 0
    rows = await con.fetch("SELECT object, min(t) FROM measurement GROUP BY object")
    first = {row["object"].bytes: (row["min"] - moment(START)).days for row in rows}
    assert first == {watched: 3, other: 6}
    for target, width in ((watched, 0), (other, 60)):
        curve = (await read_lightcurve(con, target, resolution="point")).columns
        assert curve["width_s"][np.searchsorted(curve["t"], START + 5 * DAY_US)] == width
        assert len(curve["t"]) >= 8, "bins stand for what is gone; of a point without a flux there is none"
    since = await tiers(con)
    assert since["monitored"] < since["point"]
    late = [lightcurve(START + 5 * DAY_US + 9, [watched, other], rng)]
    await store_batch(con, READER, records(late, 100), binning=binning)
    kept = await con.fetch("SELECT object FROM measurement WHERE t = $1", moment(START + 5 * DAY_US + 9))
    assert [row["object"].bytes for row in kept] == [watched]


async def test_another_width_of_partitions_does_not_reach_into_closed_times(con: Connection) -> None:
    close, binning = closing(point_partition_s=6 * 3600)
    await store_batch(con, READER, records(nights(3)), binning=binning)
    await close_all(con, close)
    await close.maintain(con)
    await close.maintain(con)
    wide, binning = closing(point_partition_s=4 * 86_400)
    more = [lightcurve(START + DAY_US // 2 + i * DAY_US, OBJECTS, np.random.default_rng(i)) for i in range(5)]
    await store_batch(con, READER, records(more, 100), binning=binning)
    before = await all_points(con)
    assert len(before) == sum(len(m.arrays["kind"]) for m in nights(3)) + 20
    await close_all(con, wide)
    await wide.maintain(con)
    assert await all_points(con) == before


async def test_bands_without_an_image_or_a_state_are_kept(con: Connection) -> None:
    close, binning = closing()
    await store_batch(con, READER, records(nights(2)), binning=binning)
    before = await all_points(con)
    await con.execute("TRUNCATE object_state")
    await close_all(con, close)
    assert await con.fetchval("SELECT count(*) FROM segment") > 0
    assert await all_points(con) == before


async def test_readers_see_all_points_while_intervals_are_closed(con: Connection, database: Database) -> None:
    close, binning = closing(point_partition_s=3600)
    rng = np.random.default_rng(4)
    messages = [lightcurve(START + i * 600_000_000, OBJECTS[:2], rng) for i in range(120)]
    await store_batch(con, READER, records(messages), binning=binning)
    ended = asyncio.Event()

    async def read() -> int:
        count = 0
        async with database.connection() as reader:
            while not ended.is_set():
                assert len(await read_lightcurve(reader, OBJECTS[count % 2], resolution="point")) == 120
                assert await reader.fetchval("SELECT count(*) FROM measurement") == 240
                count += 1
        return count

    reading = [asyncio.create_task(read()) for _ in range(2)]
    for _ in range(8):
        await close.maintain(con)
        for _ in range(12):
            await close.step(con, 7)
    ended.set()
    assert all(count > 3 for count in await asyncio.gather(*reading))
    assert await con.fetchval("SELECT count(*) FROM closed_interval WHERE state = 2") > 0


async def test_of_two_dumpers_that_close_each_row_is_written_once(database: Database, con: Connection) -> None:
    _, binning = closing(point_partition_s=3600)
    messages = [lightcurve(START + i * 600_000_000, OBJECTS, np.random.default_rng(i)) for i in range(60)]
    await store_batch(con, READER, records(messages), binning=binning)
    before = await all_points(con)

    async def close() -> None:
        async with database.connection() as mine:
            await close_all(mine, Closing(binning.config), 9)

    await asyncio.gather(close(), close(), close())
    assert await all_points(con) == before
    assert await con.fetchval("SELECT count(*) FROM closed_interval WHERE state = 0") == 0


async def test_nothing_is_closed_when_told_so(con: Connection) -> None:
    close, binning = closing(segment_after_s=0)
    await store_batch(con, READER, records(nights(3)), binning=binning)
    await close_all(con, close)
    assert await con.fetchval("SELECT count(*) FROM closed_interval") == 0
    with pytest.raises(ValueError, match="keep_monitored_points_s needs segment_after_s above 0"):
        DumperConfig(segment_after_s=0, keep_monitored_points_s=0)
