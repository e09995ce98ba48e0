"""The example that draws lightcurves in a terminal."""

import importlib.util

import numpy as np
import pytest

from mesh_runs import environment
from plugin_runs import EXAMPLES
from trapline.client import connect
from trapline.common.ids import text_id
from trapline.common.testing.plugin import fake_lightcurves, fake_transient
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

PLOT = EXAMPLES / "live_plot.py"


@pytest.fixture
def plot():
    spec = importlib.util.spec_from_file_location("live_plot", PLOT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_drawing_has_its_points_where_they_belong(plot):
    times, flux = np.arange(10.0), np.r_[np.ones(9), 5.0]
    text = plot.draw(times, flux, np.full(10, 0.05), title="an object", width=60, height=12)
    title, *body, axis = text.splitlines()
    assert title == "an object"
    assert "10 points over 9 s, last 5 ± 0.05" in axis
    assert len(body) == 10 and {len(line) for line in body} == {60}
    dotted = [[ord(c) != plot.BRAILLE for c in line[11:]] for line in body]
    assert dotted[0] == [False] * 48 + [True], "the flare is at the upper right"
    assert sum(dotted[-1]) == 9 and not dotted[-1][-1], "the others are below, apart from each other"
    assert not any(map(any, dotted[2:-1]))
    assert body[0].split()[0] == "5.05" and body[-1].split()[0] == "0.95"


def test_one_point_and_a_constant_flux_can_be_drawn(plot):
    one = np.array([1.0])
    assert "1 points" in plot.draw(one, one, 0 * one)


def test_the_newest_transient_is_drawn_with_its_past(plot, config, relay, journals):
    points = [fake_lightcurves([1.0, 2.0], t_us=(n + 1) * 1_000_000) for n in range(5)]
    object_id = points[0].arrays["object_id"][1].tobytes()
    journals.append(*points, fake_transient(object_id=object_id, kind="flare", significance=9.0))
    journals.append(fake_lightcurves([1.0, 4.0], t_us=6_000_000))
    with connect(relay.address) as mesh:
        drawings = plot.frames(mesh)
        first, second = next(drawings), next(drawings)
        chosen = next(plot.frames(mesh, chosen=points[0].arrays["object_id"][0].tobytes()))
    assert first.startswith(f"{text_id(object_id)}  flare 9.0 sigma\n") and "5 points" in first
    assert "6 points" in second and "last 4 ±" in second
    assert "1 points" in chosen and "last 1 ±" in chosen


def test_it_runs_as_a_program(config, relay, journals, tmp_path):
    import subprocess
    import sys

    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(PLOT), "--address", relay.address], stdout=file, cwd=tmp_path, env=environment()
        )
        points = fake_lightcurves([3.0])
        journals.append(points, fake_transient(object_id=points.arrays["object_id"][0].tobytes()))
        try:
            wait_for(lambda: "1 points" in out.read_text(), what="a drawing")
        finally:
            process.terminate()
            process.wait()
