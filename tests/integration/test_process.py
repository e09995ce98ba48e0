"""`trapline process`: files in, rows out, the same rows every time, whoever dies on the way."""

import csv
import io
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from mesh_runs import REAL_IMAGES, SMALL_SKY, children_of, exports, process, running, trapline
from trapline.common.testing.postgres import fresh_database
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)


def rows(table):
    return list(csv.DictReader(io.StringIO(table)))


def test_real_images_are_measured_and_stored_and_twice_gives_the_same(postgres, tmp_path):
    found = []
    for number in range(2):
        with fresh_database(postgres) as dsn:
            directory = tmp_path / str(number)
            directory.mkdir()
            report = process(REAL_IMAGES, store=dsn, cwd=directory)
            found.append((report, exports({"TRAPLINE__DATABASE__DSN": dsn}, tmp_path)))
    (first, tables), (second, again) = found
    assert tables == again
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    assert first["images"] == {"received": 5, "measured": 3, "rejected": 2}
    assert first["sources"] == first["objects"] == len(rows(tables["objects"])) >= 3
    rejected = {Path(r["origin"]).name: r["reasons"] for r in rows(tables["images"]) if r["rejected"] == "True"}
    assert set(rejected) == {"lofar-header-only.fits", "missing-metadata.fits"}
    for word in ("frequency", "telescope", "exposure"):
        assert word in rejected["missing-metadata.fits"]
    assert "beam" in rejected["lofar-header-only.fits"]


def positions(table):
    found = [(float(r["ra_deg"]), float(r["dec_deg"])) for r in rows(table)]
    return SkyCoord(found, unit="deg")


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Return FITS files of a simulated night: 2 bands, 24 frames."""
    directory = tmp_path_factory.mktemp("night")
    done = trapline("simulate", "--frames", "24", "--fits", str(directory), cwd=directory, env=SMALL_SKY)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def undisturbed(night, postgres, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("undisturbed")
    with fresh_database(postgres) as dsn:
        report = process(night, store=dsn, cwd=cwd, env=SMALL_SKY)
        return report, exports({"TRAPLINE__DATABASE__DSN": dsn}, cwd)


def test_a_simulated_night_gives_the_objects_that_were_put_there_and_its_transients(night, undisturbed):
    report, tables = undisturbed
    truth = [json.loads(line) for line in (night / "truth.jsonl").read_text().splitlines()]
    assert report["images"]["received"] == len(truth) == 48
    assert report["images"]["rejected"] == 0
    catalogue = Table.read(night / "catalogue.ecsv")
    known = SkyCoord(catalogue["ra_deg"], catalogue["dec_deg"], unit="deg")
    objects = positions(tables["objects"])
    _, apart, _ = objects.match_to_catalog_sky(known)
    assert apart.deg.max() < 0.1, "every object is a source that was put there"
    shown = known[catalogue["first_frame"] < 24]
    _, apart, _ = shown.match_to_catalog_sky(objects)
    assert apart.deg.max() < 0.1, "every source that was put there is an object"
    assert len(objects) == len(shown)
    announced = [r for r in rows(tables["transients"]) if r["kind"] == "new_source"]
    transients = known[(catalogue["kind"] == "transient") & (catalogue["first_frame"] < 24)]
    assert len(transients) >= 1
    _, apart, _ = transients.match_to_catalog_sky(positions(tables["transients"]))
    assert apart.deg.max() < 0.1, "every transient is announced"
    assert len(announced) == len(transients), "and nothing else is"


def test_every_object_has_one_point_in_each_image_from_its_backfill_to_its_expiry(undisturbed):
    points = rows(undisturbed[1]["lightcurves"])
    bands = sorted({r["band"] for r in points})
    steps = sorted({r["t"] for r in rows(undisturbed[1]["images"])})
    assert len(bands) == 2
    kinds = Counter(r["kind"] for r in points)
    for name in {r["object"] for r in points}:
        mine = [r for r in points if r["object"] == name]
        blind = sorted({steps.index(r["t"]) for r in mine if r["kind"] == "0"})
        # Twenty images before its first, in each band, and ten steps after it was seen for the last time.
        seen = blind[0]
        for step in range(blind[0], len(steps)):
            if step - seen > 10:
                break
            seen = step if step in blind else seen
        assert blind[0] <= 19, "else the ring of the newest images is shorter than the night"
        expected = [(steps[k], band) for k in range(min(seen + 11, len(steps))) for band in bands]
        assert sorted((r["t"], r["band"]) for r in mine) == expected
    assert kinds["3"] > 0


# All of them die in `test_torture`; here each dies alone, two of them also outside `make soak`.
@pytest.mark.parametrize(
    "victim",
    [
        "associator",
        "database_dumper",
        *(pytest.param(n, marks=pytest.mark.soak) for n in ("source_extractor", "transient_finder", "image_ingest")),
    ],
)
def test_kill_nine_of_a_service_changes_no_row(night, undisturbed, postgres, tmp_path, victim):
    random = np.random.default_rng(len(victim))
    with fresh_database(postgres) as dsn:
        arguments = ("process", str(night), "--store", dsn, "--json")
        slow = {**SMALL_SKY, "TRAPLINE__RUNTIME__SNAPSHOT_S": "0.3"}
        with running(*arguments, cwd=tmp_path, env=slow) as child:
            killed = 0
            while child.poll() is None and killed < 5:
                pids = children_of(child.pid, f"trapline.{victim}")
                if not pids:
                    continue
                pid = int(random.choice(pids))
                wait_for(lambda: child.poll() is not None or _is_working(tmp_path, victim), what="work")
                with_luck = random.random() * 0.3
                wait_for(_after(with_luck))
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue
            output = child.communicate(timeout=200)[0]
        assert child.returncode == 0, output
        assert killed >= 1, output
        report, tables = undisturbed
        again = exports({"TRAPLINE__DATABASE__DSN": dsn}, tmp_path)
        for name, table in tables.items():
            assert again[name] == table, name
        counts = json.loads(output.splitlines()[-1])
        assert {k: v for k, v in counts.items() if k != "seconds"} == {
            k: v for k, v in report.items() if k != "seconds"
        }


def test_a_service_that_can_never_run_ends_the_command_with_its_reason(night, postgres, tmp_path):
    store = tmp_path / "store"
    (store / "snapshots").mkdir(parents=True)
    (store / "snapshots" / "associator-0.snapshot").write_bytes(b"nonsense")
    with fresh_database(postgres) as dsn:
        env = {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn}
        done = trapline("process", str(night), "--store", str(store), cwd=tmp_path, env=env, timeout=200)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "associator-0 cannot run" in last and "remove it to rebuild" in last


def _is_working(directory, service):
    """Tell whether a service of the mesh in this directory has said that it started."""
    logs = list(directory.glob(f"trapline-*/log/{service}-*.log"))
    return any('"started"' in log.read_text() for log in logs)


def _after(seconds):
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline
