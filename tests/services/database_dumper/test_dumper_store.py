from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

import lightcurve_messages as mesh
from trapline.common.postgres import migrate
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.postgres.errors import DatabaseUnavailableError
from trapline.common.postgres.postmaster import live_postmaster, wait_until
from trapline.common.relay.requests import Cursor
from trapline.common.testing.postgres import temporary_cluster
from trapline.database_dumper.core import RecordRows, rows_of
from trapline.database_dumper.store import read_positions, store_batch
from trapline.schemas.columns import Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band
from trapline.schemas.lightcurves import STATES, BandKey, Fork
from trapline.schemas.message import Message

TABLES = ("dataset", "image", "object", "object_state", "point", "transient", "triage", "reader_position")
READER = "database_dumper"


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    async with open_database(dsn) as database, database.connection() as lent:
        yield lent


@pytest.fixture
async def any_con(any_dsn: str) -> AsyncIterator[Connection]:
    """On each kind of server: with the q3c extension, and with the functions."""
    async with open_database(any_dsn) as database, database.connection() as lent:
        yield lent


def record(channel: str, seq: int, message: Message[Any], epoch: int = 0) -> RecordRows:
    return rows_of(mesh.place(channel, seq, epoch), message)


def night(images: int = 12, objects: int = 30) -> list[RecordRows]:
    """Images, lightcurves and events as they would be read, channel by channel and interleaved."""
    rng = np.random.default_rng(5)
    known = mesh.object_ids(objects)
    records = []
    for i in range(images):
        seen = [known[k] for k in sorted(rng.choice(objects, objects // 2, replace=False))] if i else known
        kind = Kind.FORCED if i % 4 == 3 else Kind.BLIND
        records.append(record("images", i, mesh.rejected(i) if i == 5 else mesh.images_message(i)))
        records.append(record("lightcurves", i, mesh.lightcurves_message(i, seen, seed=9, kind=kind)))
        alert = ("initial", "update", "retraction")[min(i, 2)]
        event = mesh.event(i, known[i % 2], opening=i % 2, alert_type=alert, significance=float(i))
        records.append(record("transients", i, event))
    return records


async def contents(con: Connection) -> dict[str, list[tuple[Any, ...]]]:
    return {t: [tuple(row) for row in await con.fetch(f"SELECT * FROM {t} ORDER BY _id")] for t in TABLES}


async def store_in_pieces(con: Connection, records: Sequence[RecordRows], cuts: Sequence[int]) -> None:
    for first, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        await store_batch(con, READER, records[first:end])


async def test_every_column_holds_what_the_message_said(any_con: Connection) -> None:
    objects = mesh.object_ids(50)
    message = mesh.lightcurves_message(4, objects)
    flux, radius = np.asarray(message.arrays["flux_int"]).copy(), np.asarray(message.arrays["deruiter"]).copy()
    flux[7], radius[8] = np.nan, np.inf
    message = Message(message.header, dict(message.arrays) | {"flux_int": flux, "deruiter": radius})
    await store_batch(any_con, READER, [record("lightcurves", 0, message)])
    rows = {row["_id"].bytes: row for row in await any_con.fetch("SELECT * FROM point")}
    assert len(rows) == 50
    same = {"ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "flux_peak", "flux_peak_err", "flux_int",
            "flux_int_err", "snr", "deruiter", "v", "eta", "n", "flags", "kind", "link"}  # fmt: skip
    for i, point in enumerate(array_to_ids(message.arrays["point_id"])):
        row = rows[point]
        for name in same:
            np.testing.assert_equal(np.asarray(row[name], message.arrays[name].dtype), message.arrays[name][i], name)
        assert row["object"].bytes == objects[i]
        assert row["source"].bytes == message.arrays["source_id"][i].tobytes()
        assert row["image"].bytes == mesh.image(4).id
        assert (row["band"], round(row["t"].timestamp() * 1e6)) == ("60.1 MHz", mesh.START_US + 4 * mesh.STEP_US)
    state = await any_con.fetchrow("SELECT * FROM object_state WHERE object = $1", UUID(bytes=objects[3]))
    assert state is not None
    for name in ("flux_mean", "flux_mean_weighted", "flux_std", "flux_min", "flux_max", "v", "eta", "n", "n_blind"):
        assert state[name] == message.arrays[f"states.{name}"][3]
    assert (state["band"], state["unit"]) == ("60.1 MHz", "Jy")


async def test_a_batch_twice_changes_nothing(any_con: Connection) -> None:
    records = night()
    assert await store_batch(any_con, READER, records) == len(records)
    once = await contents(any_con)
    assert await store_batch(any_con, READER, records) == 0
    assert await store_batch(any_con, READER, records[:7]) == 0
    assert await contents(any_con) == once
    assert {t: len(rows) for t, rows in once.items()} == {
        "dataset": 1, "image": 12, "object": 30, "object_state": 30, "point": 30 + 11 * 15, "transient": 2, "triage": 0,
        "reader_position": 3,
    }  # fmt: skip


async def test_where_batches_end_makes_no_difference(dsn: str) -> None:
    records, rng = night(), np.random.default_rng(7)
    async with open_database(dsn) as database, database.connection() as con:
        seen = []
        for cuts in ([], range(1, len(records)), *(sorted(rng.choice(36, 6, replace=False)) for _ in range(3))):
            await store_in_pieces(con, records, [int(c) for c in cuts])
            seen.append(await contents(con))
            await con.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    assert all(other == seen[0] for other in seen)


async def test_what_a_writer_says_again_in_a_new_epoch_changes_nothing_but_the_place(any_con: Connection) -> None:
    """It lost its unsynced tail in a power cut, and made the same records anew, with one more."""
    records = night()
    await store_batch(any_con, READER, records)
    before = await contents(any_con)
    again = [record("lightcurves", 12, mesh.lightcurves_message(20, mesh.object_ids(30)), epoch=1)]
    for old in records[-9:]:
        place = Place(old.place.channel, old.place.partition, 1, old.place.seq)
        again.append(RecordRows(place, old.dataset, old.image, old.block, old.event, old.forks, old.retired))
    again.append(again.pop(0))
    assert await store_batch(any_con, READER, again) == 10
    after = await contents(any_con)
    assert {row[0] for row in before["point"]} < {row[0] for row in after["point"]}
    assert [row for row in after["point"] if row in before["point"]] == before["point"]
    assert after["image"] == before["image"]
    assert after["transient"] == before["transient"]
    positions = await read_positions(any_con, READER)
    assert sorted(positions, key=lambda c: c.channel) == [
        Cursor("images", "0", 12, 1), Cursor("lightcurves", "0", 13, 1), Cursor("transients", "0", 12, 1),
    ]  # fmt: skip


async def test_positions_given_are_kept_and_never_move_back(con: Connection) -> None:
    ahead = [Cursor("images", "0", 100, 3), Cursor("images", "1", 5, -1)]
    assert await store_batch(con, READER, [], ahead) == 0
    assert await store_batch(con, READER, [record("images", 99, mesh.images_message(1), epoch=3)]) == 0
    assert await store_batch(con, READER, [], [Cursor("images", "0", 50, 3)]) == 0
    assert sorted(await read_positions(con, READER), key=lambda c: c.partition) == ahead
    assert await read_positions(con, "someone else") == []
    assert await con.fetchval("SELECT count(*) FROM image") == 0


async def test_two_readers_keep_their_own_places(con: Connection) -> None:
    await store_batch(con, READER, night(2))
    once = await contents(con)
    assert await store_batch(con, "another", night(2)) == 6
    twice = await contents(con)
    assert len(twice.pop("reader_position")) == 2 * len(once.pop("reader_position"))
    assert twice == once


async def test_of_a_reader_that_runs_twice_each_record_is_stored_once(dsn: str) -> None:
    async with open_database(dsn) as database:

        async def run() -> int:
            async with database.connection() as con:
                return await store_batch(con, READER, night())

        assert sorted(await asyncio.gather(*(run() for _ in range(4)))) == [0, 0, 0, 36]


async def test_nothing_is_left_of_a_batch_that_fails(con: Connection) -> None:
    await con.execute("ALTER TABLE transient RENAME TO hidden")
    with pytest.raises(asyncpg.UndefinedTableError):
        await store_batch(con, READER, night())
    await con.execute("ALTER TABLE hidden RENAME TO transient")
    assert not any((await contents(con)).values())
    assert await store_batch(con, READER, night()) == 36


async def test_kill_9_of_the_server_in_the_middle_loses_and_doubles_nothing() -> None:
    records = night()
    with temporary_cluster(durable=True) as cluster:
        await asyncio.to_thread(migrate.upgrade, cluster.dsn())
        async with open_database(cluster.dsn()) as database:
            async with database.connection() as con:
                await store_batch(con, READER, records[:12])
                # Everything is written but the commit.
                await con.execute("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    PERFORM pg_sleep(60); RETURN NEW; END $$")  # fmt: skip
                await con.execute("CREATE TRIGGER t AFTER UPDATE ON reader_position EXECUTE FUNCTION dawdle()")
                before = await contents(con)

            async def store() -> None:
                async with database.connection() as con:
                    await store_batch(con, READER, records)

            writing = asyncio.create_task(store())
            await asleep(database)
            postmaster = live_postmaster(cluster.data)
            assert postmaster is not None
            os.kill(postmaster.pid, signal.SIGKILL)
            with pytest.raises(DatabaseUnavailableError):
                await writing
            assert await asyncio.to_thread(wait_until, lambda: not cluster.is_running(), 10)
            assert await asyncio.to_thread(cluster.start)
            async with database.connection() as con:
                assert await contents(con) == before
                await con.execute("DROP TRIGGER t ON reader_position")
                assert await store_batch(con, READER, records) == 24
                assert len((await contents(con))["point"]) == 30 + 11 * 15


async def asleep(database: Database) -> None:
    """Return when some session sleeps."""
    async with database.connection() as con:
        while not await con.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            pass


async def test_every_verdict_of_a_person_is_a_row(con: Connection) -> None:
    said = [mesh.verdict(0), mesh.verdict(1, "accept", note="seen\0 again", person="Vera"), mesh.verdict(1, "accept")]
    for i, message in enumerate(said):
        await store_batch(con, READER, [record("triage", i, message)])
    rows = await con.fetch("SELECT verdict, note, person FROM triage ORDER BY t")
    assert list(map(tuple, rows)) == [
        ("reject", "", ""),
        ("accept", "seen\N{REPLACEMENT CHARACTER} again", "Vera"),
    ]


async def test_an_event_is_one_row_with_the_reason_of_its_newest_record(con: Connection) -> None:
    target = mesh.object_ids(1)[0]
    for i, alert in enumerate(("initial", "update", "update", "retraction")):
        event = mesh.event(
            i, target, alert_type=alert, significance=10.0 - i, rule={"limit": float(i)}, flux_peak=i + 1.0
        )
        await store_batch(con, READER, [record("transients", i, event)])
    (row,) = await con.fetch("SELECT * FROM transient")
    assert (row["alert_type"], row["significance"]) == ("retraction", 7.0)
    assert json.loads(row["reason"])["rule"] == {"limit": 3.0}
    opened = mesh.image(0)
    assert (row["image"].bytes, row["flux_peak"], row["kind"]) == (opened.id, 1.0, "flare")


async def test_forks_and_retirement_are_kept(con: Connection) -> None:
    parent, *children = mesh.object_ids(3)
    fork: dict[str, Any] = {"forks": [Fork(parent, children)], "retired": [parent]}
    await store_batch(con, READER, [record("lightcurves", 0, mesh.lightcurves_message(0, [parent]))])
    await store_batch(con, READER, [record("lightcurves", 1, mesh.lightcurves_message(1, children, **fork))])
    await store_batch(con, READER, [record("lightcurves", 2, mesh.lightcurves_message(2, children))])
    rows = await con.fetch("SELECT _id, parent, retired FROM object")
    found = {row["_id"].bytes: (row["parent"] and row["parent"].bytes, row["retired"]) for row in rows}
    assert found == {parent: (None, True)} | dict.fromkeys(children, (parent, False))


async def test_children_of_forks_have_states_in_the_other_bands_of_their_parent(con: Connection) -> None:
    children = mesh.object_ids(2)
    message = mesh.lightcurves_message(1, children, inherited_bands=[BandKey("other"), BandKey("third")])
    past = {f"inherited.{c.name}": np.repeat(message.arrays[f"states.{c.name}"], 2, axis=0) for c in STATES.columns}
    past["inherited.band"] = np.array([0, 1, 0, 1], np.uint8)
    await store_batch(con, READER, [record("lightcurves", 1, Message(message.header, message.arrays | past))])
    rows = await con.fetch("SELECT object, band, n, v FROM object_state")
    own = message.header.image.band.name
    values = zip(message.arrays["states.n"].tolist(), message.arrays["states.v"].tolist(), strict=True)
    expected = {(i, band, *v) for i, v in zip(children, values, strict=True) for band in (own, "other", "third")}
    assert {(row["object"].bytes, *list(row)[1:]) for row in rows} == expected
    assert len(rows) == 6


async def test_of_an_image_that_comes_twice_the_first_stays(con: Connection) -> None:
    first, second = mesh.images_message(1, noise=1.0), mesh.images_message(1, noise=2.0)
    await store_batch(con, READER, [record("images", 0, first), record("images", 1, second)])
    assert [row["noise"] for row in await con.fetch("SELECT noise FROM image")] == [1.0]


async def test_a_position_that_is_no_number_is_stored_and_found_by_no_cone(any_con: Connection) -> None:
    objects = mesh.object_ids(4)
    message = mesh.lightcurves_message(0, objects)
    arrays = dict(message.arrays) | {"object_ra_deg": np.array([np.nan, np.inf, 83.0, 5e-324])}
    await store_batch(any_con, READER, [record("lightcurves", 0, Message(message.header, arrays))])
    rows = await any_con.fetch("SELECT _id FROM object WHERE q3c_radial_query(ra_deg, dec_deg, 83, 22, 10)")
    assert [row["_id"].bytes for row in rows] == objects[2:3]


async def test_rows_of_many_bands_and_odd_names_in_one_batch(con: Connection) -> None:
    objects = mesh.object_ids(3)
    names = ["", "60 MHz", "ä" * 300, "a\0b"]
    records = []
    for i, name in enumerate(names):
        of = mesh.image(i, band=Band(name), unit=None if i == 0 else "Jy")
        records.append(record("lightcurves", i, mesh.lightcurves_message(i, objects, image=of)))
    await store_batch(con, READER, records)
    stored = {row["band"] for row in await con.fetch("SELECT DISTINCT band FROM point")}
    assert stored == {"", "60 MHz", "ä" * 300, "a\N{REPLACEMENT CHARACTER}b"}
    assert await con.fetchval("SELECT count(*) FROM object_state") == 12
    assert await con.fetchval("SELECT count(*) FROM object_state WHERE unit IS NULL") == 3


async def test_an_object_keeps_its_founding_and_takes_its_newest_position(any_con: Connection) -> None:
    objects = mesh.object_ids(2)
    messages = [mesh.lightcurves_message(i, objects, seed=i) for i in range(3)]
    for i, message in enumerate(messages):
        await store_batch(any_con, READER, [record("lightcurves", i, message)])
    rows = {row["_id"].bytes: row for row in await any_con.fetch("SELECT * FROM object")}
    newest = messages[-1].arrays
    for i, key in enumerate(objects):
        assert (rows[key]["ra_deg"], rows[key]["dec_deg"]) == (newest["object_ra_deg"][i], newest["object_dec_deg"][i])
        assert round(rows[key]["first_seen"].timestamp() * 1e6) == mesh.START_US
        assert round(rows[key]["last_seen"].timestamp() * 1e6) == mesh.START_US + 2 * mesh.STEP_US
    ipix = "SELECT count(*) FROM object WHERE q3c_radial_query(ra_deg, dec_deg, $1, $2, 0.0001)"
    assert await any_con.fetchval(ipix, newest["object_ra_deg"][0].item(), newest["object_dec_deg"][0].item()) == 1
    assert ids_to_array(objects).shape == (2, 16)
