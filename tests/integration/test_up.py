"""`trapline up`: the whole mesh with a simulated telescope, a plug-in beside it, and an orderly end."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_runs import ROOT, SMALL_SKY, children_of, environment, running, trapline
from trapline.common.journal import PartitionReader
from trapline.common.testing.postgres import server_directory
from waiting import wait_for

PLUGINS = ROOT / "deploy" / "plugins"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def sky(tmp_path, dsn):
    """Return variables of a small simulated sky, a database, and a port of its own for the relay."""
    return {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn, "TRAPLINE__RELAY__PORT": "0"}


def relay_address(directory):
    path = directory / "trapline-data" / "relay.address"
    return wait_for(lambda: path.exists() and path.read_text().strip(), what="the relay")


def plugin(name, *arguments, cwd):
    return subprocess.Popen(
        [sys.executable, str(PLUGINS / name), *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process):
    """End a plug-in as Ctrl-C would, and return what it printed."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=20)[0]


def test_a_finite_run_announces_a_transient_to_plugins_and_ends_by_itself(tmp_path, sky):
    with running("up", "--simulate", "--frames", "80", cwd=tmp_path, env=sky) as mesh:
        address = relay_address(tmp_path)
        printing = plugin("print_transients.py", address, cwd=tmp_path)
        plain = plugin("plain_zmq.py", address, "transients", cwd=tmp_path)
        output = mesh.communicate(timeout=200)[0]
        printed, plainly = finished(printing), finished(plain)
    assert mesh.returncode == 0, output
    counts = re.search(r"stored: (\d+) images \((\d+) measured, (\d+) rejected\)", " ".join(output.split()))
    assert counts, output
    assert tuple(map(int, counts.groups())) == (160, 160, 0)
    assert re.search(r"initial new_source \w+ at [\d.]+ [+-][\d.]+", output)
    event = re.search(r"^(\d+\.\d+) ([\d.]+) ([-\d.]+) (new_source|flare) ([\d.]+)$", printed, re.MULTILINE)
    assert event, printed
    assert re.search(r"^0 0 trapline\.transients/1\.0 (new_source|flare) \d+ arrays$", plainly, re.MULTILINE), plainly
    assert not children_of(mesh.pid)


def test_ctrl_c_drains_and_says_what_is_stored_and_how_to_look_at_it(tmp_path, sky):
    with running("up", "--simulate", cwd=tmp_path, env=sky) as mesh:
        log = tmp_path / "trapline-data" / "log" / "database_dumper-0.log"
        wait_for(lambda: _status(tmp_path, "database_dumper", "records_stored") > 20, 120, "storing")
        pids = children_of(mesh.pid)
        os.killpg(mesh.pid, signal.SIGINT)
        output = mesh.communicate(timeout=60)[0]
    assert mesh.returncode == 0, output
    assert log.exists()
    stored = int(re.search(r"stored: (\d+) images", output)[1])
    assert stored >= 10
    assert "trapline export transients" in output
    wait_for(lambda: not any(_alive(pid) for pid in pids), 10, "the end of all children")
    shown = trapline("export", "images", cwd=tmp_path, env=sky)
    assert len(shown.stdout.splitlines()) == stored + 1
    nearest = trapline("cone", "350", "52.9", "60", "--json", cwd=tmp_path, env=sky)
    first = nearest.stdout.splitlines()[0]
    object_id = re.search(r'"object": "([-0-9a-f]+)"', first)[1]
    curve = trapline("lightcurve", object_id, cwd=tmp_path, env=sky)
    assert curve.returncode == 0
    assert len(curve.stdout.splitlines()) > 5


def test_a_second_ctrl_c_ends_at_once(tmp_path, sky):
    with running("up", "--simulate", cwd=tmp_path, env=sky) as mesh:
        relay_address(tmp_path)
        pids = wait_for(lambda: len(found := children_of(mesh.pid)) >= 7 and found, what="all services")
        mesh.send_signal(signal.SIGINT)
        while "draining" not in mesh.stdout.readline():
            assert mesh.poll() is None
        mesh.send_signal(signal.SIGINT)
        mesh.wait(10)
        assert mesh.returncode in (130, 0)
        wait_for(lambda: not any(_alive(pid) for pid in pids), 10, "the end of all children")


def test_the_embedded_database_is_started_again_when_it_is_killed_and_nothing_is_lost(tmp_path):
    with server_directory() as directory:
        env = {
            **SMALL_SKY,
            "TRAPLINE__SIMULATOR__CADENCE_S": "1",
            "TRAPLINE__RELAY__PORT": "0",
            "TRAPLINE__DATABASE__DIRECTORY": str(directory / "postgres"),
        }
        with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
            wait_for(lambda: _status(tmp_path, "database_dumper", "records_stored") > 4, 120, "storing")
            killed = _postmaster(directory)
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: _postmaster(directory) not in (0, killed), 60, "a new server")
            mesh.send_signal(signal.SIGINT)
            output = mesh.communicate(timeout=120)[0]
        assert mesh.returncode == 0, output
        assert "the embedded database died and is started again" in output
        sent = PartitionReader(tmp_path / "trapline-data" / "journal" / "images" / "0").next_seq
        assert f"stored: {sent} images ({sent} measured, 0 rejected)" in " ".join(output.split())
        shown = trapline("export", "images", cwd=tmp_path, env=env)
        assert len(shown.stdout.splitlines()) == 1 + sent


def _postmaster(directory):
    """Return the process of a server, 0 while there is none."""
    for path in (directory / "postgres").rglob("postmaster.pid"):
        with contextlib.suppress(FileNotFoundError):
            return int((path.read_text().split() or ["0"])[0])
    return 0


def test_kill_nine_of_the_supervisor_leaves_no_process_behind(tmp_path, sky):
    with running("up", "--simulate", cwd=tmp_path, env=sky) as mesh:
        relay_address(tmp_path)
        pids = wait_for(lambda: len(found := children_of(mesh.pid)) >= 7 and found, what="all services")
        mesh.kill()
        wait_for(lambda: not any(_alive(pid) for pid in pids), 60, "the end of all children")


def test_status_and_tail_look_into_a_running_mesh(tmp_path, sky):
    with running("up", "--simulate", cwd=tmp_path, env=sky) as mesh:
        wait_for(lambda: _status(tmp_path, "transient_finder", "steps") > 3, 120, "folding")
        shown = trapline("status", cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        for name in ("image_ingest-0", "source_extractor-0", "associator-0", "database_dumper-0", "relay-0"):
            assert re.search(rf"^{name} +running", shown.stdout, re.MULTILINE), shown.stdout
        tailed = trapline("tail", "images", "--from", "first", "-n", "3", "--json", cwd=tmp_path)
        assert [line.split('"place": "')[1].split('"')[0] for line in tailed.stdout.splitlines()] == [
            "images/0@0:0",
            "images/0@0:1",
            "images/0@0:2",
        ]
        assert mesh.poll() is None


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _status(directory, service, counter):
    """Return a counter of a service of the mesh in a directory; 0 while it does not run."""
    if not (directory / "trapline-data" / "relay.ipc").exists():
        return 0
    shown = trapline("status", "--json", cwd=directory)
    if shown.returncode:
        return 0
    services = {s["service"]: s for s in json.loads(shown.stdout)["services"]}
    return services.get(service, {"counters": {}})["counters"].get(counter, 0)
