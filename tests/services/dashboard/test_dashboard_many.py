"""A hundred thousand objects, and a lightcurve of as many points: every page of every list is still a page."""

import json
import struct

import pytest

from dashboard_many import STAR, N, fill_many
from dashboard_night import running_night

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


def test_the_whole_population_travels_in_32_bytes_an_object(night):
    status, raw = _raw(night, "/objects/population.bin")
    assert (status, len(raw)) == (200, 32 * N)
    v, eta, flux, n = struct.unpack("<4f", raw[:16])
    assert (round(v, 3), round(eta, 2), flux, n) == (0.149, 1.39, 5.0, 20.0)


def test_a_long_lightcurve_is_means_until_one_zooms_in(night):
    (band,) = json.loads(night.get(f"/objects/{STAR}/curve?most=1000")[1])["bands"]
    assert (band["points"], band["shown"], band["mean_of"]) == (N, 1000, 100)
    assert band["err"][0] == pytest.approx(0.1)
    window = f"since={band['t'][3]}&until={band['t'][5]}"
    (near,) = json.loads(night.get(f"/objects/{STAR}/curve?most=1000&{window}")[1])["bands"]
    assert (near["shown"], near["mean_of"]) == (200, 1)


def _raw(night, path):
    import urllib.request

    with urllib.request.urlopen(f"{night.address.rstrip('/')}{path}", timeout=60) as answer:
        return answer.status, answer.read()
