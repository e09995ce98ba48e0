from __future__ import annotations

import csv
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

from trapline.common.postgres import migrate, q3c
from trapline.common.postgres.cluster import Cluster
from trapline.common.sky import separation_deg
from trapline.common.testing.postgres import empty_database, run_sql

HERE = Path(__file__).parent
FUNCTIONS = HERE.parents[2] / "schemas/trapline/schemas/sql/q3c.sql"
IPIX = (
    "SELECT q3c_ang2ipix(ra, dec) FROM unnest($1::float8[], $2::float8[]) WITH ORDINALITY AS t (ra, dec, i) ORDER BY i"
)


def golden(name: str) -> list[list[float]]:
    """The extension's own answers, made once."""
    with (HERE / name).open() as file:
        rows = list(csv.reader(line for line in file if not line.startswith("#")))
    return [[int(v) if v.lstrip("-").isdecimal() else float(v) for v in row] for row in rows[1:]]


@pytest.fixture
async def functions(any_postgres: Cluster) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A database with the SQL functions, whether or not the server has the extension."""
    with empty_database(any_postgres) as dsn:
        con = await asyncpg.connect(dsn)
        await con.execute(FUNCTIONS.read_text())
        yield con
        await con.close()


@pytest.fixture
async def extension(any_postgres: Cluster) -> AsyncIterator[asyncpg.Connection[Any]]:
    with empty_database(any_postgres) as dsn:
        con = await asyncpg.connect(dsn)
        if not await con.fetchval("SELECT 1 FROM pg_available_extensions WHERE name = 'q3c'"):
            await con.close()
            pytest.skip(f"the {any_postgres.binaries.origin}'s server has no q3c extension (postgresql-15-q3c)")
        await con.execute("CREATE EXTENSION q3c")
        yield con
        await con.close()


async def test_cell_numbers_are_those_of_the_extension_bit_for_bit(functions: asyncpg.Connection[Any]) -> None:
    ra, dec, expected = zip(*golden("q3c_ang2ipix.csv"), strict=True)
    found = [row[0] for row in await functions.fetch(IPIX, ra, dec)]
    assert [(a, d) for a, d, f, e in zip(ra, dec, found, expected, strict=True) if f != e] == []
    assert len(found) > 3000


async def test_cell_numbers_of_real_columns_are_those_of_the_same_numbers(functions: asyncpg.Connection[Any]) -> None:
    query = "SELECT q3c_ang2ipix(10.1::real, 9.1::real), q3c_ang2ipix(10.1::real::float8, 9.1::real::float8)"
    single, double = await functions.fetchrow(query)  # type: ignore[misc]
    assert single == double == 2032054879986771196


async def test_what_is_no_position_has_no_cell(functions: asyncpg.Connection[Any]) -> None:
    places: list[tuple[Any, Any]] = [("NaN", 1), (1, "NaN"), ("Infinity", 1), (1, "-Infinity"), (None, 1), (1, None)]
    for place in places:
        position = [None if v is None else float(v) for v in place]
        assert await functions.fetchval("SELECT q3c_ang2ipix($1::float8, $2::float8)", *position) is None
        assert not await functions.fetchval("SELECT q3c_radial_query($1::float8, $2::float8, 1, 1, 10)", *position)
        assert not await functions.fetchval("SELECT q3c_radial_query(1.0, 1.0, $1, $2, 10)", *position)


async def test_a_distance_from_nowhere_is_no_number(functions: asyncpg.Connection[Any]) -> None:
    for position in (("NaN", "1"), ("Infinity", "1"), ("1", "-Infinity"), ("1e308", "1")):
        values = [float(v) for v in position]
        assert math.isnan(await functions.fetchval("SELECT q3c_dist($1, $2, 1.0, 1.0)", *values))
        assert math.isnan(await functions.fetchval("SELECT q3c_dist(1.0, 1.0, $1, $2)", *values))
    assert await functions.fetchval("SELECT q3c_dist(1.0, 1.0, NULL, 1.0)") is None


async def test_cones_hold_the_rows_of_the_extension(functions: asyncpg.Connection[Any]) -> None:
    points = golden("q3c_ang2ipix.csv")
    await functions.execute("CREATE TABLE star (i integer, ra float8, dec float8)")
    await functions.copy_records_to_table("star", records=[(i, p[0], p[1]) for i, p in enumerate(points)])
    await functions.execute("CREATE INDEX ON star (q3c_ang2ipix(ra, dec))")
    for ra, dec, radius, *expected in golden("q3c_radial_query.csv"):
        query = "SELECT count(*), coalesce(sum(i), 0) FROM star WHERE q3c_radial_query(ra, dec, $1, $2, $3)"
        assert list(await functions.fetchrow(query, ra, dec, radius) or ()) == expected, (ra, dec, radius)


async def test_cones_of_any_size_are_right_by_the_index_and_without(functions: asyncpg.Connection[Any]) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 8_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 8_000)))
    await functions.execute("CREATE TABLE sphere (i integer, ra float8, dec float8)")
    stars = zip(range(len(ra)), ra.tolist(), dec.tolist(), strict=True)
    await functions.copy_records_to_table("sphere", records=stars)
    await functions.execute("CREATE INDEX ON sphere (q3c_ang2ipix(ra, dec)); ANALYZE sphere")
    centres: list[tuple[float, float]] = [
        (0, 90),
        (77, -90),
        (0, 0),
        (360, 0),
        (45, 35.2643896827),
        (135, 0),
        (225, -44.9),
        (10, 45),
        (1, 89.9),
    ]
    cones: list[tuple[float, float, float]] = [
        (a, d, r) for a, d in centres for r in (0.5, 20, 54.8, 89.9, 90, 120, 180)
    ]
    cones += [
        (rng.uniform(0, 360), np.degrees(np.arcsin(rng.uniform(-1, 1))), 10 ** rng.uniform(-1, 2)) for _ in range(40)
    ]
    wrong = []
    for indexed in ("on", "off"):
        await functions.execute(f"SET enable_seqscan = {'off' if indexed == 'on' else 'on'}")
        await functions.execute(f"SET enable_bitmapscan = {indexed}")
        for centre in cones if indexed == "on" else cones[::10]:
            values = [float(v) for v in centre]
            query = "SELECT i FROM sphere WHERE q3c_radial_query(ra, dec, $1, $2, $3)"
            found = {row["i"] for row in await functions.fetch(query, *values)}
            expected = set(np.flatnonzero(separation_deg(ra, dec, *values[:2]) < values[2]).tolist())
            wrong += [values] if found != expected else []
    assert wrong == []


async def test_a_cone_search_uses_the_index(functions: asyncpg.Connection[Any]) -> None:
    await functions.execute("CREATE TABLE many (ra float8, dec float8)")
    await functions.execute("INSERT INTO many SELECT i % 360, i % 180 - 90 FROM generate_series(1, 20000) AS i")
    await functions.execute("CREATE INDEX many_q3c ON many (q3c_ang2ipix(ra, dec)); ANALYZE many")
    query = "SELECT * FROM many WHERE q3c_radial_query(ra, dec, 10, 10, 1)"
    for analysed in (False, True):
        plan = "\n".join(row[0] for row in await functions.fetch(f"EXPLAIN {query}"))
        assert "Bitmap Index Scan on many_q3c" in plan, analysed
        assert "Seq Scan" not in plan
        await functions.execute("ANALYZE many")


async def test_radii_that_are_none(functions: asyncpg.Connection[Any]) -> None:
    # As the extension: only |sin(radius / 2)| counts, and nothing is nearer than 0.
    query = "SELECT q3c_radial_query(10.0, 10.0, 10, 10, $1)"
    answers = [await functions.fetchval(query, r) for r in (0.0, -1.0, 1e-9, math.inf, math.nan)]
    assert answers[:3] == [False, True, True]
    assert not any(answers[3:])
    for literal in ("'Infinity'", "'NaN'", "1e-300", "1e308"):
        query = f"SELECT q3c_radial_query(10.0, 10.0, 10, 10, {literal}) FROM generate_series(1, 2)"
        assert [row[0] for row in await functions.fetch(query)] == [False, False], literal


async def test_the_extension_itself_agrees(extension: asyncpg.Connection[Any]) -> None:
    ra, dec, expected = zip(*golden("q3c_ang2ipix.csv"), strict=True)
    assert [row[0] for row in await extension.fetch(IPIX, ra, dec)] == list(expected)
    await extension.execute("CREATE SCHEMA ours; SET search_path = ours")
    await extension.execute(FUNCTIONS.read_text())
    await extension.execute("SET search_path = public, ours")
    differing = await extension.fetchval(
        """
        SELECT count(*) FROM (
            SELECT random() * 360 AS ra, degrees(asin(2 * random() - 1)) AS dec FROM generate_series(1, 100000)
        ) AS sky
        WHERE public.q3c_ang2ipix(ra, dec) <> ours.q3c_ang2ipix(ra, dec)
            OR abs(public.q3c_dist(ra, dec, 10, 10) / ours.q3c_dist(ra, dec, 10, 10) - 1) > 1e-12
        """
    )
    assert differing == 0


async def test_the_extension_is_taken_where_it_is(extension: asyncpg.Connection[Any]) -> None:
    await extension.execute("DROP EXTENSION q3c")
    assert await q3c.installed(extension) is None
    assert await q3c.install(extension) == "extension"
    assert await q3c.installed(extension) == await q3c.install(extension) == "extension"


async def test_functions_stay_functions(functions: asyncpg.Connection[Any]) -> None:
    await functions.execute("CREATE TABLE star (ra float8, dec float8)")
    await functions.execute("CREATE INDEX ON star (q3c_ang2ipix(ra, dec))")
    assert await q3c.install(functions) == "functions"
    assert await q3c.installed(functions) == await q3c.install(functions) == "functions"
    comment = "SELECT obj_description('q3c_ang2ipix(float8, float8)'::regprocedure)"
    assert "functions" in str(await functions.fetchval(comment))


def test_who_may_not_create_the_extension_gets_the_functions(any_postgres: Cluster) -> None:
    """The owner of a database who is no superuser: as on a managed server."""
    run_sql(any_postgres.dsn(), "CREATE ROLE tenant LOGIN")
    try:
        with empty_database(any_postgres, owner="tenant") as dsn:
            own = dsn.replace("trapline@", "tenant@")
            assert migrate.upgrade(own) == "functions"
            assert run_sql(own, "SELECT count(*) FROM object")[0][0] == 0
    finally:
        run_sql(any_postgres.dsn(), "DROP ROLE tenant")
