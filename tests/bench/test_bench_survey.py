"""The survey benchmark: what it says when its opponent cannot run, and that both are given the same visits."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.bench_survey import _Load, _TheirVisits
from bench.harness import InvalidRunError
from bench.lsst import opponent
from trapline.survey.detections import detections
from trapline.survey.visits import visit_of


def test_an_opponent_that_cannot_run_says_why(tmp_path):
    # Our own environment does not have their package.
    with (
        pytest.raises(InvalidRunError, match="No module named 'lsst'"),
        opponent(Path(sys.executable), "postgresql://nobody@/none", (1.0, 2.0, 3.0), tmp_path),
    ):
        pytest.fail("it runs")


class Listener:
    """Notes what an opponent would be told."""

    def __init__(self):
        self.visits = []

    def visit(self, number, t_us, path):
        with np.load(path) as rows:
            self.visits.append((number, t_us, rows["found"], rows["forced"]))
        return {}


def test_they_are_given_our_visits_and_a_forced_row_for_all_that_is_known_and_not_seen(tmp_path):
    load = _Load(200, 12, 6, 3)
    listener = Listener()
    visits = _TheirVisits(load.config, listener, tmp_path / "visit.npz")
    assert len(list(visits.until(3))) == 3
    assert len(list(visits.until(6))) == 3
    assert [number for number, *_ in listener.visits] == list(range(6))
    known = set()
    for number, t_us, found, forced in listener.visits:
        visit = visit_of(load.config, number)
        assert t_us == visit.t_us
        assert len(found) == len(detections(load.config, visit))
        seen = set(found["thing"].tolist())
        assert len(seen) == len(found)
        assert set(forced["thing"].tolist()) == known - seen
        assert (found["flux_err_njy"] > 0).all()
        known |= seen
    assert load.ends_of_blocks() == [3, 6, 12]
