"""A hundred thousand objects, and a lightcurve of as many points: every page of every list is still a page."""

import json
import struct

import pytest

from dashboard_night import running_night
from trapline.common.testing.postgres import run_sql

pytestmark = pytest.mark.timeout(300)

N = 100_000
# Ids that begin with a time, as ours do: 48 bits of milliseconds, and a number.
ID = "('01890000' || lpad(to_hex({0}), 4, '0') || '80008000' || lpad(to_hex({1}), 12, '0'))::uuid"
OF = ID.format("i / 1000", "i")
DATASET = "00000000-0000-8000-8000-000000000001"
ROWS = (
    f"INSERT INTO dataset VALUES ('{DATASET}', 'default')",
    f"""
    INSERT INTO object SELECT {OF}, '{DATASET}', (i * 0.0036)::float8, degrees(asin(2 * i / {N}.0 - 1)), 1e-3, 1e-3,
        timestamptz '2026-01-01', timestamptz '2026-01-02', NULL, 0, false, NULL FROM generate_series(0, {N - 1}) AS i
    """,
    f"""
    INSERT INTO object_state SELECT {OF}, {OF}, 5, 5, 1, 3, 8, 0.05 + 0.001 * (i % 100), 1 + 0.01 * (i % 70),
        timestamptz '2026-01-02', 20, 20, '60 MHz', 'Jy' FROM generate_series(0, {N - 1}) AS i
    """,
    "CREATE TABLE IF NOT EXISTS point_many PARTITION OF point FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    f"""
    INSERT INTO point SELECT {ID.format("0", "i + 4096")}, {ID.format("0", "0")}, {OF}, {OF},
        timestamptz '2026-01-01' + i * interval '1 s', 1, 1, 1e-3, 1e-3, 5, 1, 5 + sin(i / 500.0), 1, 0.1, 1, 9, 0.5, 0,
        i + 1, 0, 0, '60 MHz' FROM generate_series(0, {N - 1}) AS i
    """,
    "ANALYZE",
)


@pytest.fixture
def night(tmp_path, dsn):
    run_sql(dsn, *ROWS)
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


def test_the_whole_population_travels_in_32_bytes_an_object(night):
    status, raw = _raw(night, "/objects/population.bin")
    assert (status, len(raw)) == (200, 32 * N)
    v, eta, flux, n = struct.unpack("<4f", raw[:16])
    assert (round(v, 3), round(eta, 2), flux, n) == (0.149, 1.39, 5.0, 20.0)


def test_a_long_lightcurve_is_means_until_one_zooms_in(night):
    key = "01890000-0000-8000-8000-000000000000"
    (band,) = json.loads(night.get(f"/objects/{key}/curve?most=1000")[1])["bands"]
    assert (band["points"], band["shown"], band["mean_of"]) == (N, 1000, 100)
    assert band["err"][0] == pytest.approx(0.1)
    window = f"since={band['t'][3]}&until={band['t'][5]}"
    (near,) = json.loads(night.get(f"/objects/{key}/curve?most=1000&{window}")[1])["bands"]
    assert (near["shown"], near["mean_of"]) == (200, 1)


def _raw(night, path):
    import urllib.request

    with urllib.request.urlopen(f"{night.address.rstrip('/')}{path}", timeout=60) as answer:
        return answer.status, answer.read()
