"""Every counter has a line in deploy/METRICS.md: those in the code, and those that a live mesh shows."""

from __future__ import annotations

import ast
import json
import re
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mesh_runs import ROOT, SMALL_SKY, running, trapline
from trapline.common.security.gate import _COUNTED, _MALFORMED
from waiting import wait_for

PAGE = (ROOT / "deploy" / "METRICS.md").read_text()
EVENTS = [name for cell in re.findall(r"^\| (`[^|]+`) \|", PAGE.partition("## Counters")[2], re.MULTILINE)
          for name in re.findall(r"`([^`]+)`", cell)]  # fmt: skip
PATTERNS = [re.compile(re.sub(r"[A-Z]+", r"[A-Za-z0-9_.-]+", name)) for name in EVENTS]
NOW = {"images_held", "objects", "requests_open", "pairs_pending", "episodes", "objects_waiting"}  # not since the start
METRICS = re.findall(r"^\| `(trapline_[a-z_]+)`", PAGE, re.MULTILINE)


def has_a_line(name):
    return any(pattern.fullmatch(name) for pattern in PATTERNS)


def names_in(node):
    """Return the names that a subscript of a counter can have, with `x` for what varies."""
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return names_in(node.body) + names_in(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return ["".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)]
    return []


def counted(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript):
            name = getattr(node.value, "attr", getattr(node.value, "id", ""))
            if name.endswith("counters"):
                yield from names_in(node.slice)


def test_every_counter_in_the_code_has_a_line():
    files = [path for root in ("common", "services") for path in (ROOT / root / "trapline").rglob("*.py")]
    found = {name for path in files for name in counted(path)} | {*_COUNTED.values(), *_MALFORMED.values()}
    assert len(found) > 40
    assert sorted(name for name in found if isinstance(name, str) and not has_a_line(name)) == []


def scraped(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def services(directory):
    shown = trapline("status", "--json", cwd=directory)
    return json.loads(shown.stdout)["services"] if shown.returncode == 0 else []


def process_of(shown):
    return shown["service"], shown["replica"]


def stored(directory):
    found = {s["service"]: s for s in services(directory)}
    return found.get("database_dumper", {"counters": {}})["counters"].get("records_stored", 0)


@pytest.mark.timeout(300)
def test_a_live_mesh_shows_what_the_page_says_and_what_status_says(tmp_path, dsn):
    env = {**SMALL_SKY, "TRAPLINE__DATABASE__DSN": dsn, "TRAPLINE__RELAY__PORT": "0"}
    with running("up", "--simulate", cwd=tmp_path, env=env) as mesh:
        wait_for(lambda: (tmp_path / "trapline-data" / "relay.ipc").exists() and stored(tmp_path) > 20, 200, "storing")
        before = services(tmp_path)
        families = {process_of(s): scraped(s["health_port"]) for s in before if s["state"] == "running"}
        wait_for(lambda: stored(tmp_path) > 40, 100, "more")
        after = {process_of(s): s["counters"] for s in services(tmp_path)}
        assert mesh.poll() is None
    assert {"relay", "image_ingest", "source_extractor", "associator", "database_dumper"} <= {
        service for service, _ in families
    }
    for service in (s for s in before if process_of(s) in families):
        name = process_of(service)
        ours = [f for f in families[name] if f.name.startswith("trapline_")]
        assert {f.name.removesuffix("_total") for f in ours} <= {m.removesuffix("_total") for m in METRICS}
        events = {s.labels["event"]: s.value for f in ours for s in f.samples if s.name == "trapline_events_total"}
        assert sorted(event for event in events if not has_a_line(event)) == []
        for event, value in service["counters"].items():
            if event not in NOW:
                assert value <= events[event] <= after[name].get(event, value), (name, event)
