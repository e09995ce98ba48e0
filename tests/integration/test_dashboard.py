"""The dashboard of a real mesh: its address is said, it shows what happens, and nobody misses it."""

import json
import os
import re
import signal
import urllib.request

import pytest

from mesh_runs import SMALL_SKY, children_of, running
from waiting import wait_for

pytestmark = pytest.mark.timeout(240)


def get(address, path):
    with urllib.request.urlopen(f"{address.rstrip('/')}{path}", timeout=30) as answer:
        return answer.read().decode()


def health(address):
    return json.loads(get(address, "/health.json"))


def processes(address):
    return {f"{p['service']}-{p['replica']}": p for p in health(address)["processes"]}


def test_a_mesh_says_where_its_dashboard_is_and_goes_on_without_it(tmp_path, dsn):
    env = {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn, "TRAPLINE__RELAY__PORT": "0"}
    with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
        address = ""
        while not address:
            line = mesh.stdout.readline()
            assert mesh.poll() is None, line
            found = re.search(r"dashboard at (http://127\.0\.0\.1:\d+/)", line)
            address = found[1] if found else ""
        wait_for(lambda: processes(address)["database_dumper-0"]["done"] > 20, 120, "storing")
        feeds = json.loads(get(address, "/health/feeds.json"))
        assert all(feed["connected"] == 1 for feed in feeds)
        assert len(get(address, "/images.csv").splitlines()) > 5
        assert "measured" in get(address, "/images")
        before = {name: p["pid"] for name, p in processes(address).items()}
        (victim,) = children_of(mesh.pid, "trapline.dashboard")
        os.kill(victim, signal.SIGKILL)
        path = tmp_path / "trapline-data" / "dashboard.address"

        def again():
            try:
                now = processes(path.read_text().strip())
            except OSError:
                return None
            return now if now["dashboard-0"]["pid"] not in (None, victim) else None

        after = wait_for(again, 60, "the dashboard again")
        assert {n: p["pid"] for n, p in after.items() if n != "dashboard-0"} == {
            n: pid for n, pid in before.items() if n != "dashboard-0"
        }
        assert after["dashboard-0"]["restarts"] == 1
        others = {name: p for name, p in after.items() if name != "dashboard-0"}
        assert {name: (p["restarts"], p["last_error"]) for name, p in others.items()} == dict.fromkeys(
            others, (0, None)
        )
        stored = after["database_dumper-0"]["done"]
        wait_for(lambda: processes(path.read_text().strip())["database_dumper-0"]["done"] > stored, 60, "storing")
        (folding, *_) = children_of(mesh.pid, "trapline.associator")
        os.kill(folding, signal.SIGKILL)
        address = path.read_text().strip()
        story = wait_for(
            lambda: [a for a in health(address)["alarms"] if a["subject"] == "associator-0"], 60, "an alarm"
        )
        assert "crashed" in story[0]["text"] or "started again" in story[0]["text"]
        mesh.send_signal(signal.SIGINT)
        output = mesh.communicate(timeout=100)[0]
    assert mesh.returncode == 0, output
    assert not path.exists()
