"""`trapline monitor`: a position is measured from the next image on, at run time, until it is removed."""

from __future__ import annotations

import csv
import io
import json
import os
import signal

import pytest

from mesh_runs import SMALL_SKY, running, trapline
from trapline.common.journal import PartitionReader
from trapline.schemas.message import decode_header
from waiting import wait_for

pytestmark = pytest.mark.timeout(900)


def commands_in(directory, channel):
    """Return the commands in the journal of a channel, in their order."""
    found = []
    for path in (directory / "trapline-data" / "journal" / channel).glob("*"):
        reader = PartitionReader(path)
        headers = [decode_header(frame) for _, frame in reader.first_frames(reader.first_seq)]
        found += [h.command for h in headers if h.command is not None]
    return found


def images_in(directory):
    path = directory / "trapline-data" / "journal" / "lightcurves" / "0"
    return PartitionReader(path).next_seq if path.exists() else 0


def test_a_position_becomes_a_lightcurve_while_the_mesh_runs(tmp_path, dsn):
    env = {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn, "TRAPLINE__RELAY__PORT": "0"}
    with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
        wait_for(lambda: images_in(tmp_path) > 4, 150, "images")
        added = trapline("monitor", "add", "350.0", "52.9", "--name", "the pole", cwd=tmp_path, env=env)
        assert added.returncode == 0, added.stderr
        position = added.stdout.strip()
        shown = trapline("monitor", "list", "--json", cwd=tmp_path, env=env)
        assert json.loads(shown.stdout) == {"object": position, "ra_deg": 350.0, "dec_deg": 52.9, "name": "the pole"}
        wait_for(lambda: commands_in(tmp_path, "lightcurves"), 60, "the command to be folded")
        before = images_in(tmp_path)
        wait_for(lambda: images_in(tmp_path) > before + 10, 60, "more images")
        removed = trapline("monitor", "remove", "the pole", cwd=tmp_path, env=env)
        assert removed.returncode == 0, removed.stderr
        assert trapline("monitor", "list", cwd=tmp_path, env=env).stdout == ""
        wait_for(lambda: len(commands_in(tmp_path, "lightcurves")) == 2, 60, "the removal to be folded")
        before = images_in(tmp_path)
        wait_for(lambda: images_in(tmp_path) > before + 4, 60, "images without it")
        os.killpg(mesh.pid, signal.SIGINT)
        output = mesh.communicate(timeout=100)[0]
    assert mesh.returncode == 0, output
    assert [c.name for c in commands_in(tmp_path, "images")] == ["monitor_add", "monitor_remove"]
    exported = trapline("export", "lightcurves", cwd=tmp_path, env=env)
    points = [r for r in csv.DictReader(io.StringIO(exported.stdout)) if r["object"] == position]
    assert len(points) >= 10
    assert {(r["kind"], r["link"]) for r in points} == {("2", "5")}
    assert len({r["image"] for r in points}) == len(points), "one in each image"
    assert all(float(r["flux_int_err"]) > 0 for r in points)


@pytest.mark.parametrize("arguments", [("400", "0"), ("10", "91"), ("ten", "0")])
def test_what_is_no_position_is_refused(tmp_path, arguments):
    done = trapline("monitor", "add", *arguments, cwd=tmp_path)
    assert done.returncode == 2
