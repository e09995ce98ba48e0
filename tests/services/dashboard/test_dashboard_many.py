"""A hundred thousand objects, and a lightcurve of as many points: every page of every list is still a page."""

import asyncio
import json
import struct

import pytest

from dashboard_many import CROWDED, STAR, N, fill_many
from dashboard_night import running_night
from trapline.common.postgres.connection import open_database, run_blocking

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def night(tmp_path, dsn):
    fill_many(dsn)
    with running_night(tmp_path, dsn, page_rows=100) as night:
        yield night


def test_lists_are_paged_and_nothing_is_missed(night):
    status, text = night.get("/objects.csv?position=12:00:00+0:00:00&radius=5+deg")
    assert status == 200
    assert 100 < len(text.splitlines()) < 5000
    status, text = night.get("/objects.csv")
    ids = [line.split(",", 1)[0] for line in text.splitlines()[1:]]
    assert (status, len(ids), len(set(ids))) == (200, N, N)
    assert ids == sorted(ids, reverse=True)
    status, text = night.get(f"/objects?before={ids[50_000]}")
    assert status == 200
    assert ids[50_001] in text
    assert ids[50_000] not in text.replace(f"before={ids[50_000]}", "")


def test_all_that_are_not_split_travel_in_32_bytes_each(night):
    status, raw = _raw(night, "/objects/population.bin")
    assert (status, len(raw)) == (200, 32 * (N - 1))
    v, eta, flux, n = struct.unpack("<4f", raw[:16])
    assert (round(v, 3), round(eta, 2), flux, n) == (0.149, 1.39, 5.0, 20.0)


def test_a_long_lightcurve_is_means_until_one_zooms_in(night):
    (band,) = json.loads(night.get(f"/objects/{STAR}/curve?most=1000")[1])["bands"]
    assert (band["points"], band["shown"], band["mean_of"]) == (N, 1000, 100)
    assert band["err"][0] == pytest.approx(0.1)
    window = f"since={band['t'][3]}&until={band['t'][5]}"
    (near,) = json.loads(night.get(f"/objects/{STAR}/curve?most=1000&{window}")[1])["bands"]
    assert (near["shown"], near["mean_of"]) == (200, 1)


READ = {
    # Of these, 2,000 are the newest images, for the bands to choose from.
    "/objects": 3000,
    "/objects?before=01890032-8000-8000-8000-00000000c350": 3000,
    "/objects?position=100.0+40.0&radius=1+arcsec": 4000,
    "/objects?position=12:00:00+0:00:00&radius=1+deg&n_min=5": 5000,
    f"/objects/{STAR}": 1000,
    f"/objects/{CROWDED}": 20_000,
    "/transients": 1000,
    "/transients?verdict=accept": 1000,
    "/images": 3000,
    "/images?band=60+MHz&since=2026-01-01T01:00": 30_000,
    "/images/noise": 3000,
    # The whole of the lightcurve, twice: counted, and read.
    f"/objects/{STAR}/curve": 2 * N + 1000,
    # One pass over all objects, and what is shown of them.
    "/objects?sort=-eta": N + 4000,
    "/objects?sort=-ra_deg": 2 * N + 4000,
    "/images?sort=-noise": N,
    "/objects/population.bin": 2 * N + 1000,
}


def test_pages_read_little_of_a_full_store_and_never_all_points(night, dsn):
    found = {}
    for path in READ:
        before = rows_read(dsn)
        assert _raw(night, path)[0] == 200
        after = rows_read(dsn)
        found[path] = {table: n - before.get(table, 0) for table, n in after.items() if n != before.get(table, 0)}
    too_many = {path: found[path] for path, most in READ.items() if sum(found[path].values()) > most}
    assert too_many == {}
    with_points = [path for path, tables in found.items() if any(n for name, n in tables.items() if "point" in name)]
    assert with_points == [f"/objects/{STAR}/curve"]


def rows_read(dsn):
    """Return how many rows of each table all that asked so far have read."""
    mine = "application_name LIKE 'trapline dashboard%'"

    async def ask():
        async with open_database(dsn) as database, database.connection() as con:
            # Who leaves tells what he read.
            await con.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
            while await con.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}"):
                await asyncio.sleep(0.05)
            query = "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_user_tables"
            return {row["relname"]: row["n"] for row in await con.fetch(query)}

    return run_blocking(ask)


def test_neighbours_in_a_crowd_are_the_nearest_and_children_are_found(night):
    status, text = night.get(f"/objects/{CROWDED}")
    assert (status, text.count("Went on as"), "split into 2" in text) == (200, 2, True)
    assert text.count("0.0276″") == 1 and text.count("″</td>") == 12


def _raw(night, path):
    import urllib.request

    with urllib.request.urlopen(f"{night.address.rstrip('/')}{path}", timeout=60) as answer:
        return answer.status, answer.read()
