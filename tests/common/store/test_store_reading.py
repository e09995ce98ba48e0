from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import numpy as np
import pytest

import lightcurve_messages as mesh
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.sky import separation_deg
from trapline.common.store import EXPORTS, Window, cone, export, lightcurve, summary
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind
from trapline.schemas.image import Band
from trapline.schemas.lightcurves import Fork
from trapline.schemas.message import Message

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = [EPOCH + timedelta(microseconds=mesh.START_US + i * mesh.STEP_US) for i in range(5)]


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    """A reader: whatever these functions do, they do not write."""
    async with open_database(dsn, read_only=True) as database, database.connection() as lent:
        yield lent


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[Any]:
    """Store messages, each on its own channel, as the dumper does."""
    async with open_database(dsn) as database:
        seq = iter(range(1000))

        async def put(*messages: Message[Any]) -> None:
            async with database.connection() as writer:
                await store_batch(writer, "test", [rows_of(mesh.place("any", next(seq)), m) for m in messages])

        yield put


async def test_an_empty_store_is_counted_and_exported_as_empty(con: Connection) -> None:
    counts = msgspec.to_builtins(await summary(con))
    images = {"received": 0, "measured": 0, "rejected": 0}
    assert counts == {"images": images, "sources": 0, "objects": 0, "points": 0, "transients": 0}
    for what in EXPORTS:
        assert [row async for row in export(con, what)] == []
    assert await cone(con, 0, 90, 180) == []


async def test_what_was_stored_is_counted(con: Connection, store: Any) -> None:
    objects = mesh.object_ids(10)
    await store(*(mesh.images_message(i) for i in range(3)), mesh.rejected(8), mesh.rejected(9))
    shared = mesh.lightcurves_message(1, objects[:4])
    one_for_two = np.asarray(shared.arrays["source_id"])[[0, 0, 2, 3]]
    shared = Message(shared.header, dict(shared.arrays) | {"source_id": one_for_two})
    forced = mesh.lightcurves_message(2, objects, kind=Kind.FORCED)
    await store(mesh.lightcurves_message(0, objects), shared, forced, mesh.event(1, objects[0]))
    counts = msgspec.to_builtins(await summary(con))
    images = {"received": 5, "measured": 3, "rejected": 2}
    assert counts == {"images": images, "sources": 10 + 3, "objects": 10, "points": 24, "transients": 1}


async def test_datasets_are_counted_and_exported_apart(con: Connection, store: Any) -> None:
    first, second = mesh.object_ids(3), mesh.object_ids(5, number=1)
    await store(mesh.images_message(0), mesh.lightcurves_message(0, first))
    await store(mesh.images_message(1, dataset="deep"), mesh.lightcurves_message(1, second, dataset="deep"))
    numbers = {name: (await summary(con, name)).points for name in ("default", "deep", "no such")}
    assert numbers == {"default": 3, "deep": 5, "no such": 0}
    assert (await summary(con)).points == 8
    for what, count in (("objects", 5), ("lightcurves", 5), ("images", 1)):
        assert len([row async for row in export(con, what, "deep")]) == count
        assert [row async for row in export(con, what, "no such")] == []
    assert len(await cone(con, 85, 22, 20, "deep")) == 5
    assert len(await cone(con, 85, 22, 20)) == 8


async def test_a_lightcurve_is_in_the_order_of_time_with_what_was_measured(con: Connection, store: Any) -> None:
    target, other = mesh.object_ids(2)
    order = [4, 0, 3, 1, 2]
    messages = {i: mesh.lightcurves_message(i, [target, other]) for i in order}
    await store(*(mesh.images_message(i) for i in order), *(messages[i] for i in order))
    points = list((await lightcurve(con, target)).rows())
    assert [p["t"] for p in points] == [
        EPOCH + timedelta(microseconds=mesh.START_US + i * mesh.STEP_US) for i in range(5)
    ]
    assert [p["flux_int"] for p in points] == [messages[i].arrays["flux_int"][0] for i in range(5)]
    assert {(p["object"].bytes, p["band"], p["unit"]) for p in points} == {(target, "60.1 MHz", "Jy")}


async def test_one_band_of_a_lightcurve(con: Connection, store: Any) -> None:
    (target,) = mesh.object_ids(1)
    bands = ["a", "b", "a"]
    images = [mesh.image(i, band=Band(band), unit=None if band == "b" else "nJy") for i, band in enumerate(bands)]
    await store(*(mesh.lightcurves_message(i, [target], image=of) for i, of in enumerate(images)))
    both, one = [list((await lightcurve(con, target, band)).rows()) for band in (None, "a")]
    assert [(p["band"], p["unit"]) for p in both] == [("a", "nJy"), ("b", None), ("a", "nJy")]
    assert [p["band"] for p in one] == ["a", "a"]
    with pytest.raises(LookupError, match=r"no points in band 'c'; its bands are a, b"):
        await lightcurve(con, target, "c")


async def test_a_point_of_a_band_without_statistics_is_there(con: Connection, store: Any) -> None:
    (target,) = mesh.object_ids(1)
    bare = mesh.lightcurves_message(1, [target], image=mesh.image(1, band=Band("0 no states")))
    bare = Message(bare.header, {k: v for k, v in bare.arrays.items() if not k.startswith("states.")})
    await store(mesh.lightcurves_message(0, [target]), bare)
    assert [p["band"] for p in (await lightcurve(con, target)).rows()] == ["60.1 MHz", "0 no states"]
    assert len(await lightcurve(con, target, "0 no states")) == 1


async def test_a_window_holds_its_beginning_and_not_its_end(con: Connection, store: Any) -> None:
    (target,) = mesh.object_ids(1)
    await store(*(mesh.lightcurves_message(i, [target]) for i in range(5)))
    for since, until, wanted in (
        (TIMES[1], TIMES[3], TIMES[1:3]),
        (None, TIMES[1], TIMES[:1]),
        (TIMES[4], None, TIMES[4:]),
    ):
        found = await lightcurve(con, target, None, Window(since, until))
        assert [p["t"] for p in found.rows()] == wanted


async def test_an_unknown_object_is_answered_with_how_to_find_one(con: Connection) -> None:
    with pytest.raises(LookupError, match=r"no object 00000000-0000-0000-0000-000000000000 .*trapline cone"):
        await lightcurve(con, bytes(16))


async def test_what_was_split_inherits_the_past(con: Connection, store: Any) -> None:
    root, left, right, leaf = mesh.object_ids(4)
    await store(mesh.lightcurves_message(0, [root]))
    await store(mesh.lightcurves_message(1, [left, right], forks=[Fork(root, [left, right])], retired=[root]))
    await store(mesh.lightcurves_message(2, [leaf], forks=[Fork(left, [leaf])], retired=[left]))
    await store(mesh.lightcurves_message(3, [root, leaf, right], kind=Kind.FORCED))
    measured = {
        key: [(p["object"].bytes, round((p["t"] - EPOCH) / timedelta(seconds=1) - mesh.START_US / 1e6)) for p in points]
        for key in (root, left, right, leaf)
        if (points := (await lightcurve(con, key)).rows())
    }
    assert measured[root] == [(root, 0), (root, 3)]
    assert sorted(measured[leaf]) == sorted([(root, 0), (left, 1), (leaf, 2), (root, 3), (leaf, 3)])
    assert sorted(measured[right]) == sorted([(root, 0), (right, 1), (root, 3), (right, 3)])


async def test_a_parent_that_is_its_own_child_ends(con: Connection, store: Any) -> None:
    a, b = mesh.object_ids(2)
    await store(mesh.lightcurves_message(0, [a, b], forks=[Fork(a, [b]), Fork(b, [a])]))
    assert len(await lightcurve(con, a)) == 2


async def test_a_cone_holds_what_is_near_nearest_first(any_dsn: str) -> None:
    rng = np.random.default_rng(2)
    n = 400
    ra = np.concatenate([rng.uniform(0, 360, n - 100), rng.uniform(-1, 1, 50) % 360, rng.uniform(0, 360, 50)])
    dec = np.concatenate([rng.uniform(-90, 90, n - 100), rng.uniform(-1, 1, 50), rng.uniform(89, 90, 50)])
    message = mesh.lightcurves_message(0, mesh.object_ids(n))
    message = Message(message.header, dict(message.arrays) | {"object_ra_deg": ra, "object_dec_deg": dec})
    async with open_database(any_dsn) as database, database.connection() as con:
        await store_batch(con, "test", [rows_of(mesh.place("lightcurves", 0), message)])
        for centre, radius in (((0.0, 0.0), 0.7), ((359.9, 0.2), 0.9), ((17.0, 90.0), 0.6), ((200.0, -50.0), 30.0)):
            distances = separation_deg(ra, dec, *centre)
            found = await cone(con, *centre, radius)
            assert [o.ra_deg for o in found] == ra[np.argsort(distances)][: (distances < radius).sum()].tolist()
            np.testing.assert_allclose([o.distance_deg for o in found], np.sort(distances)[: len(found)], atol=1e-9)
            assert len(found) > 5
            assert all(o.bands == ["60.1 MHz"] and o.n == 1 for o in found)
        turned = [[o.object for o in await cone(con, ra_deg, 0.2, 0.9)] for ra_deg in (-360.1, -0.1, 359.9, 719.9)]
        assert all(other == turned[0] for other in turned)


async def test_a_cone_that_is_none_is_refused(con: Connection) -> None:
    for position in ((np.nan, 0, 1), (np.inf, 0, 1), (0, 91, 1), (0, np.nan, 1)):
        with pytest.raises(ValueError, match="is no position: RA in degrees"):
            await cone(con, *position)
    for radius in (0, -1, 181, np.nan):
        with pytest.raises(ValueError, match="must be above 0 and at most 180"):
            await cone(con, 0, 0, radius)


async def test_exports_have_named_columns_and_a_total_order(con: Connection, store: Any) -> None:
    objects = mesh.object_ids(700)
    messages = [mesh.lightcurves_message(i, objects, seed=i) for i in range(3)]
    said = [mesh.event(2, objects[5]), mesh.verdict()]
    await store(*(mesh.images_message(i) for i in range(3)), mesh.rejected(1), *messages, *said)
    rows = {
        what: [dict(zip(EXPORTS[what].columns, row, strict=True)) async for row in export(con, what)]
        for what in EXPORTS
    }
    assert {what: len(found) for what, found in rows.items()} == {
        "objects": 700, "lightcurves": 2100, "transients": 1, "triage": 1, "images": 4,
    }  # fmt: skip
    assert [o["object"].bytes for o in rows["objects"]] == sorted(objects)
    keys = [(p["object"], p["t"]) for p in rows["lightcurves"]]
    assert keys == sorted(keys)
    at = objects.index(rows["lightcurves"][4]["object"].bytes)
    assert rows["lightcurves"][4]["flux_peak"] == messages[1].arrays["flux_peak"][at]
    assert rows["lightcurves"][4]["unit"] == "Jy"
    unreadable = rows["images"][-1]
    assert (unreadable["rejected"], unreadable["t"], unreadable["origin"]) == (True, None, "/data/bad1")
    assert json.loads(unreadable["reasons"])[0]["check"] == "header"
    assert json.loads(rows["transients"][0]["reason"])["rule"] == {"mean": 2.0, "limit": 6.5}


async def test_an_export_sees_one_moment(con: Connection, store: Any) -> None:
    objects = mesh.object_ids(2500)
    await store(mesh.lightcurves_message(0, objects))
    seen = 0
    async for _ in export(con, "lightcurves"):
        if not seen:
            await store(mesh.lightcurves_message(1, objects))
        seen += 1
    assert seen == 2500
    assert (await summary(con)).points == 5000


async def test_an_export_that_is_none_is_refused(con: Connection) -> None:
    with pytest.raises(ValueError, match=r"no export of 'stars'; there are objects, .*, triage, images"):
        await anext(export(con, "stars"))


async def test_readers_do_not_write(con: Connection) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await con.execute("DELETE FROM point")
