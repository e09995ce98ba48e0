"""From any version to the newest and back, with what was stored; the schema is the one that is checked in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

import lightcurve_messages as mesh
from trapline.cli import app
from trapline.common.postgres import migrate
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.listing import differences, listing, wanted_listing
from trapline.common.testing.postgres import empty_database, run_sql
from trapline.database_dumper.closing import Closing
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch

VERSIONS = migrate.versions()
HOW = "make it anew: trapline db listing > schemas/trapline/schemas/sql/schema.txt (of a database that is upgraded)"

POINT = """
INSERT INTO point SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', gen_random_uuid(),
    gen_random_uuid(), '2025-12-31 23:59:50+00'::timestamptz + i * interval '1 second', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    11, 12, 0, i, 0, 0, 'a'
FROM generate_series(0, 19) AS i
"""
OBJECT = """
INSERT INTO object (_id, dataset, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, first_seen, last_seen, kind)
VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 1, 2, 3, 4, now(), now(), 0)
"""
DATASET = "INSERT INTO dataset VALUES ('00000000-0000-0000-0000-000000000002', 'old')"


@pytest.fixture
def empty(any_postgres: Cluster) -> Iterator[str]:
    with empty_database(any_postgres) as dsn:
        yield dsn


def ask(dsn: str, question: Any) -> Any:
    async def run() -> Any:
        async with open_database(dsn) as database, database.connection() as con:
            return await question(con)

    return asyncio.run(run())


def test_the_schema_is_the_one_that_is_checked_in(any_dsn: str) -> None:
    assert ask(any_dsn, listing) == wanted_listing(), HOW
    assert ask(any_dsn, differences) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_from_every_version_to_the_newest_and_back(empty: str, version: str) -> None:
    migrate.upgrade(empty, target=version)
    before = ask(empty, listing)
    if version == "0001":
        run_sql(empty, DATASET, OBJECT, POINT)
    migrate.upgrade(empty)
    assert ask(empty, differences) == []
    if version == "0001":
        assert run_sql(empty, "SELECT count(*) FROM point")[0][0] == 20
        message = mesh.lightcurves_message(0, mesh.object_ids(2))
        ask(empty, lambda con: store_batch(con, "test", [rows_of(mesh.place("lightcurves", 0), message)]))
        (row,) = run_sql(empty, "SELECT minute, batches FROM binning WHERE dataset <> (SELECT _id FROM dataset "
                                "WHERE name = 'default')")  # fmt: skip
        assert row["minute"].isoformat() == "2025-12-31T23:59:00+00:00"
    migrate.downgrade(empty, version)
    assert ask(empty, listing) == before
    if version == "0001":
        assert run_sql(empty, "SELECT count(*) FROM point")[0][0] == 22
    migrate.downgrade(empty, "base")
    assert ask(empty, listing) == ""
    migrate.upgrade(empty)
    assert ask(empty, differences) == []


def test_the_newest_can_be_taken_back_while_points_are_in_partitions(dsn: str) -> None:
    messages = [mesh.lightcurves_message(i * 86_400, mesh.object_ids(3)) for i in range(3)]
    rows = [rows_of(mesh.place("lightcurves", i), m) for i, m in enumerate(messages)]
    ask(dsn, lambda con: store_batch(con, "test", rows))
    migrate.downgrade(dsn, "0001")
    assert run_sql(dsn, "SELECT count(*) FROM point")[0][0] == 9
    migrate.upgrade(dsn)
    assert run_sql(dsn, "SELECT count(*) FROM point")[0][0] == 9
    assert ask(dsn, differences) == []


def test_points_of_segments_return_to_their_table(any_dsn: str) -> None:
    messages = [mesh.lightcurves_message(i * 43_200, mesh.object_ids(3)) for i in range(6)]
    rows = [rows_of(mesh.place("lightcurves", i), m) for i, m in enumerate(messages)]
    ask(any_dsn, lambda con: store_batch(con, "test", rows))

    async def close(con: Any) -> None:
        closing = Closing(DumperConfig(segment_after_s=1))
        await closing.maintain(con)
        # Of three intervals one is dropped, one is half done, one is open.
        await closing.step(con)
        while not await con.fetchval("SELECT count(*) FROM closed_interval WHERE state = 1"):
            await closing.step(con)
        for _ in range(2):
            await closing.maintain(con)
        await closing.step(con, 2)
        await closing.step(con, 2)

    every = "SELECT * FROM measurement ORDER BY _id"
    before = [tuple(row) for row in run_sql(any_dsn, every)]
    ask(any_dsn, close)
    found = run_sql(any_dsn, "SELECT state, count(*) FROM closed_interval GROUP BY state ORDER BY state")
    assert [tuple(row) for row in found] == [(0, 1), (2, 1)]
    assert [tuple(row) for row in run_sql(any_dsn, every)] == before
    migrate.downgrade(any_dsn, "0004")
    assert [tuple(row) for row in run_sql(any_dsn, every.replace("measurement", "point"))] == before
    assert run_sql(any_dsn, "SELECT count(*) FROM trap.extractedsource")[0][0] == 18
    migrate.upgrade(any_dsn)
    assert [tuple(row) for row in run_sql(any_dsn, every)] == before
    assert ask(any_dsn, differences) == []


def test_a_version_that_is_none_is_refused(dsn: str, empty: str) -> None:
    with pytest.raises(DatabaseError, match="no schema '0099'; there are base, 0001"):
        migrate.downgrade(dsn, "0099")
    with pytest.raises(DatabaseError, match="schema none: it is not newer"):
        migrate.downgrade(empty, "0001")


def test_the_commands_say_what_they_did_and_what_differs(empty: str) -> None:
    def db(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["db", *arguments], env={"TRAPLINE__DATABASE__DSN": empty})

    done = db("check")
    assert done.exit_code == 1 and "schema none" in done.stderr and "db upgrade" in done.stderr
    done = db("init")
    assert done.exit_code == 0 and f"schema {VERSIONS[-1]}" in done.stdout
    assert "has schema" in db("init").stderr
    assert "as expected" in db("check").stdout
    run_sql(empty, "ALTER TABLE image ADD COLUMN mine integer", "DROP INDEX transient_t")
    done = db("check")
    assert done.exit_code == 1 and "+column public.image.mine integer" in done.stdout
    assert "-index CREATE INDEX transient_t" in done.stdout
    assert db("downgrade", "base").exit_code == 2
    done = db("downgrade", "base", "--yes")
    assert done.exit_code == 0 and "schema none" in done.stdout, done.stderr
