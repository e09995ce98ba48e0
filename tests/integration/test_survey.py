"""`trapline survey`: visits through a real mesh, stopped and gone on with, against the same ones in one go."""

import json
import signal

import pytest

from mesh_runs import exports, running, trapline
from trapline.common.testing.postgres import fresh_database
from trapline.survey.visitlog import read_rows
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

SMALL = {
    "TRAPLINE__SURVEY__VARIABLES": "300",
    "TRAPLINE__SURVEY__NOISE_DETECTIONS": "100",
    "TRAPLINE__SURVEY__TRANSIENTS": "60",
    "TRAPLINE__SURVEY__MOVING": "10",
    "TRAPLINE__SURVEY__TILES": "2",
    "TRAPLINE__SURVEY__TILE_PX": "2048",
}


def whole(cwd, env, *arguments):
    done = trapline("survey", "run", "--visits", "15", "--json", *arguments, cwd=cwd, env=env, timeout=250)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_stopped_survey_goes_on_and_ends_as_one_that_was_not(tmp_path, dsn, postgres):
    with fresh_database(postgres) as second_dsn:
        (tmp_path / "once").mkdir()
        (tmp_path / "twice").mkdir()
        once = {**SMALL, "TRAPLINE__DATABASE__DSN": dsn}
        # How it is run does not matter for what comes of it.
        other_ways = {"TRAPLINE__SURVEY__PARALLEL": "2", "TRAPLINE__SURVEY__HISTORY_FROM_STORE": "true"}
        twice = {**SMALL, **other_ways, "TRAPLINE__DATABASE__DSN": second_dsn}
        summary = whole(tmp_path / "once", once)
        file = tmp_path / "twice" / "trapline-survey" / "survey" / "visits.csv"
        with running("survey", "run", "--visits", "15", cwd=tmp_path / "twice", env=twice) as mesh:
            wait_for(lambda: file.exists() and len(list(read_rows(file))) >= 3, 120, "three visits")
            mesh.send_signal(signal.SIGINT)
            output = mesh.communicate(timeout=120)[0]
            assert mesh.returncode == 0, output
        stopped = len(list(read_rows(file)))
        assert 3 <= stopped < 15
        again = whole(tmp_path / "twice", twice)
        assert exports(once, tmp_path) == exports(twice, tmp_path)
        for name in (
            "visits",
            "detections",
            "bodies",
            "forced",
            "points",
            "completeness",
            "purity",
            "duplicates",
            "transients_announced",
        ):
            assert summary[name] == again[name], name
        assert summary["visits"] == 15
        assert summary["detections"] + summary["forced"] == summary["points"]
        assert summary["lost"] == 0
        assert summary["completeness"] > 0.99
        assert summary["purity"] > 0.99
        assert 0 < summary["transients_announced"] <= summary["transients_detected"]
        assert summary["stored"]["images"]["received"] == 60
        assert summary["stored"]["sources"] == summary["detections"]
        shown = trapline("survey", "follow", "--once", "--json", cwd=tmp_path / "twice", env=twice)
        rows = [json.loads(line) for line in shown.stdout.splitlines()]
        assert [row["visit"] for row in rows] == list(range(15))
        assert all(row["store_s"] > row["match_s"] > 0 for row in rows)
        assert all(row["history_stored"] == row["history"] for row in rows), "memory and store know the same"
        assert all(row["objects_stored"] == row["objects"] for row in rows)
        assert all(row["history_stored_s"] > 0 for row in rows)


def test_sources_are_written_for_a_part_of_the_sky(tmp_path):
    done = trapline("survey", "gen-sources", "stars.fits", "--cone", "30", "-20", "1", cwd=tmp_path, env=SMALL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stars.fits").stat().st_size > 2880
    env = {**SMALL, "TRAPLINE__SURVEY__DENSITY_MAP": str(tmp_path / "none.npy")}
    done = trapline("survey", "gen-sources", "stars.fits", cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("trapline: ")
    assert "none.npy" in done.stderr


def test_following_what_is_not_there_says_what_would_be_right(tmp_path):
    done = trapline("survey", "follow", "--once", cwd=tmp_path)
    assert done.returncode == 1
    assert "`trapline survey run` writes it" in done.stderr
