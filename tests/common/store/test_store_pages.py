"""Long lists, sorted by any column: every row once, in order, whatever was not measured, page by page both ways."""

import math
from datetime import UTC, datetime
from uuid import UUID

import pytest

from trapline.common.postgres.connection import open_database
from trapline.common.store.order import Order
from trapline.common.store.pages import LISTS, Filters, page
from trapline.common.store.population import population
from trapline.common.testing.postgres import run_sql

N = 137
ID = "('01890000' || lpad(to_hex({0}), 4, '0') || '80008000' || lpad(to_hex({1}), 12, '0'))::uuid"
OF = ID.format("i / 10", "i")
ELSE = ID.format("9999", "i")
DATASET = "00000000-0000-8000-8000-000000000001"
OTHER = "00000000-0000-8000-8000-000000000002"
T = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = (
    f"INSERT INTO dataset VALUES ('{DATASET}', 'default'), ('{OTHER}', 'other')",
    # Those of another dataset come first whatever is asked for.
    f"""
    INSERT INTO object SELECT {ELSE}, '{OTHER}', 359 - i, i, 1, 1, '2020-01-01', '2030-01-01', NULL, 0, false,
        NULL FROM generate_series(0, 99) AS i
    """,
    f"""
    INSERT INTO object_state SELECT {ELSE}, {ELSE}, s, s, s, s, s, s, s,
        '2030-01-01', s, s, '60 MHz', 'Jy' FROM generate_series(0, 99) AS i,
        LATERAL (SELECT (i % 2) * 1e6 - 1 AS s) AS it
    """,
    f"""
    INSERT INTO object SELECT {OF}, '{DATASET}', i, 20, 1e-3, 1e-3, timestamptz '2026-01-01' + i % 9 * interval '1 us',
        timestamptz '2026-01-02', NULL, 0, false, NULL FROM generate_series(0, {N - 1}) AS i
    """,
    # Many are equal, some were not measured, and the same flux has two units.
    f"""
    INSERT INTO object_state SELECT {OF}, {OF}, 5, (CASE i % 2 WHEN 0 THEN 1 ELSE 1000 END) * (1 + i / 2), 1, 3, 8,
        CASE i % 7 WHEN 0 THEN 'NaN'::float8 ELSE i % 5 END, i, timestamptz '2026-01-02', i % 3, 20,
        CASE i % 2 WHEN 0 THEN '60 MHz' ELSE '50 MHz' END, CASE i % 2 WHEN 0 THEN 'Jy' ELSE 'mJy' END
    FROM generate_series(0, {N - 1}) AS i
    """,
    f"""
    INSERT INTO image (_id, dataset, t, noise, unit, margin_px, role, rejected, origin) SELECT {OF}, '{DATASET}',
        timestamptz '2026-01-01', CASE WHEN i % 4 > 0 THEN 0.1 * (i % 6) END, 'Jy', 0, 'observation', i % 3 = 0, ''
    FROM generate_series(0, {N - 1}) AS i
    """,
)


@pytest.fixture
async def con(dsn):
    run_sql(dsn, *ROWS)
    async with open_database(dsn) as database, database.connection() as con:
        yield con


async def walked(con, what, column, *, descending, limit=10):
    """Return the pages of a sorted list, each begun from the last row of the one before."""
    pages, before, at = [], None, None
    while True:
        order = Order(column, descending, at)
        found = await page(con, what, Filters(dataset="default"), limit=limit, before=before, order=order)
        pages.append(found)
        if len(found) < limit:
            return pages
        before, at = found[-1]["key"], str(found[-1]["at"])


@pytest.mark.parametrize("descending", [True, False], ids=["down", "up"])
@pytest.mark.parametrize("what", ["objects", "images"])
async def test_every_row_is_on_one_page_in_the_order_of_any_column_and_back(con, what, descending):
    for column in LISTS[what].sorts:
        await walked_both_ways(con, what, column, descending=descending)


async def walked_both_ways(con, what, column, *, descending):
    pages = await walked(con, what, column, descending=descending)
    rows = [row for some in pages for row in some]
    assert len({row["key"] for row in rows}) == len(rows) == N
    places = [(row["at"], row["key"]) for row in rows]
    assert places == sorted(places, reverse=descending)
    # The page before the last but one is found from its first row.
    first = pages[-2][0]
    order = Order(column, descending, str(first["at"]))
    back = await page(con, what, Filters(dataset="default"), limit=10, after=first["key"], order=order)
    assert [row["key"] for row in back] == [row["key"] for row in pages[-3]]


async def test_what_was_not_measured_is_last_either_way(con):
    for descending in (True, False):
        rows = [row for some in await walked(con, "objects", "v", descending=descending) for row in some]
        unknown = [math.isnan(row["v"]) for row in rows]
        assert unknown == sorted(unknown) and 0 < sum(unknown) < N
        rows = [row for some in await walked(con, "images", "noise", descending=descending) for row in some]
        unknown = [row["noise"] is None for row in rows]
        assert unknown == sorted(unknown) and 0 < sum(unknown) < N


async def test_fluxes_are_compared_as_fluxes_whatever_their_unit(con):
    rows = [row for some in await walked(con, "objects", "flux_mean_weighted", descending=True) for row in some]
    jansky = [row["flux_mean_weighted"] * (1 if row["unit"] == "Jy" else 1e-3) for row in rows]
    assert jansky == pytest.approx(sorted(jansky, reverse=True))
    filters = Filters(dataset="default", flux_min=10_000, flux_max=12_000, flux_unit="mJy")
    found = await page(con, "objects", filters, limit=1000)
    assert {row["unit"] for row in found} == {"Jy", "mJy"}
    assert len(found) == sum(10 <= value <= 12 for value in jansky) > 3
    plain = await page(con, "objects", Filters(dataset="default", flux_min=10_000), limit=1000)
    assert {row["unit"] for row in plain} == {"mJy"}


async def test_the_population_has_the_unit_that_is_asked_for(con):
    bare = await population(con, "default")
    milli = await population(con, "default", unit="mJy")
    assert sorted(milli["flux"]) == pytest.approx(sorted(1000.0 * (1 + i // 2) for i in range(N)))
    assert len(bare) == N and sorted(bare["flux"]) != sorted(milli["flux"])


@pytest.mark.parametrize(
    ("order", "words"),
    [(Order("reason"), "sorted by"), (Order("v; DROP TABLE object"), "sorted by"), (Order("v", True, "x"), "no number"),
     (Order("v", True, None), "no number"), (Order("v", True, "nan"), "no number")],
    ids=["column", "sql", "word", "none", "nan"],
)  # fmt: skip
async def test_an_order_that_is_none_is_refused(con, order, words):
    with pytest.raises(ValueError, match=words):
        await page(con, "objects", Filters(dataset="default"), before=UUID(int=1), order=order)
    assert await page(con, "objects", Filters(dataset="default"), limit=1)
