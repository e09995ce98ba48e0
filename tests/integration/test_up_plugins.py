"""Plug-ins that `mesh.toml` lists: run by `trapline up`, started again whatever ends them, and missed by nobody."""

import json
import os
import re
import signal

import pytest

from mesh_runs import SMALL_SKY, children_of, running, trapline
from plugin_runs import BRIGHT, published, write_plugin
from waiting import wait_for

DYING = """
    import os
    from trapline.plugin import subscribes

    @subscribes("lightcurves", start="first")
    def die(event):
        os._exit(0)
"""
MESH = """
[plugins.finder]
file = "bright_finder.py"
start = "first"
environment = { LIMIT = "7" }

[plugins.dying]
file = "dying.py"

[plugins.broken]
file = "no_such_file.py"
"""

pytestmark = pytest.mark.timeout(240)


def test_they_live_beside_the_services_and_what_ends_one_of_them_ends_nothing_else(tmp_path, dsn):
    env = {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn, "TRAPLINE__RELAY__PORT": "0"}
    text = BRIGHT.replace("import msgspec", "import os, msgspec").replace("> 5)", '> float(os.environ["LIMIT"]))')
    write_plugin(tmp_path, text)
    write_plugin(tmp_path, DYING, "dying")
    (tmp_path / "mesh.toml").write_text(MESH)
    journal, log = tmp_path / "trapline-data" / "journal", tmp_path / "trapline-data" / "log"
    with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
        for _ in range(2):
            before = len(published(journal, "bright", "finder-0"))
            wait_for(lambda n=before: len(published(journal, "bright", "finder-0")) > n + 20, 120, "the plug-in")
            (victim,) = children_of(mesh.pid, "finder")
            os.kill(victim, signal.SIGKILL)
        wait_for(lambda: children_of(mesh.pid, "finder") not in ([], [victim]), what="the plug-in again")
        wait_for(lambda: published(journal, "dead_letters", "dying-0"), 120, "the end of what kills the other one")
        wait_for(lambda: "cannot run" in (log / "broken-0.log").read_text(), what="a reason")
        status = json.loads(trapline("status", "--json", cwd=tmp_path, env=env).stdout)
        mesh.send_signal(signal.SIGINT)
        output = mesh.communicate(timeout=100)[0]
    assert mesh.returncode == 0, output
    assert {"finder", "dying", "associator"} <= {s["service"] for s in status["services"]}
    assert "broken-0 died and is started again: there is no file no_such_file.py" in " ".join(output.split())
    stored, measured, rejected = map(int, re.search(r"(\d+) images \((\d+) measured, (\d+) rej", output).groups())
    assert (stored, measured, rejected) == (len(published(journal, "images", "0")), stored, 0), output
    # What the two deaths left is what a plug-in that never died would have published: each thing once.
    live = published(journal, "bright", "finder-0")
    assert [h.number for h in live] == list(range(1, len(live) + 1))
    done = trapline(
        "plugin", "bright_finder.py", "--name", "finder", "--replay", "first..latest", "--json",
        cwd=tmp_path, env={"LIMIT": "7"},
    )  # fmt: skip
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(h.number, h.flux) for h in live] == [(line["number"], line["flux"]) for line in again[: len(live)]]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[plugins.associator]\nfile = "x.py"', "associator is the name of a service or a table"),
        ('[plugins."a-b"]\nfile = "x.py"', "should match pattern"),
        ("[plugins.a]", "plugins.a.file"),
        ('[plugins.a]\nfile = "x.py"\nnice = 1', "unknown key plugins.a.nice; allowed here are environment, file"),
    ],
    ids=["taken", "odd", "no file", "unknown"],
)
def test_a_wrong_table_is_refused_with_what_would_be_right(tmp_path, table, words):
    (tmp_path / "mesh.toml").write_text(table)
    done = trapline("up", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_replicas_of_what_is_no_group_are_refused_in_its_log(tmp_path):
    write_plugin(tmp_path)
    (tmp_path / "mesh.toml").write_text('[plugins.bright_finder]\nfile = "bright_finder.py"\nreplicas = 2')
    done = trapline("plugin", "bright_finder.py", "--supervised", cwd=tmp_path)
    assert done.returncode == 2
    assert "only those with group=True share them" in json.loads(done.stdout + done.stderr)["reason"]
