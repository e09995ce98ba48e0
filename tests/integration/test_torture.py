"""Torture: `kill -9` of every process of a mesh, again and again, and the same rows as without."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mesh_runs import SMALL_SKY, children_of, exports, process, running, trapline
from trapline.common.testing.postgres import server_directory
from waiting import wait_for

VICTIMS = (
    "trapline.common.relay",
    "trapline.image_ingest",
    "trapline.source_extractor",
    "trapline.associator",
    "trapline.transient_finder",
    "trapline.database_dumper",
    "postgres",
)
SETTINGS = {
    **SMALL_SKY,
    "TRAPLINE__RUNTIME__SNAPSHOT_S": "0.5",
    "TRAPLINE__RUNTIME__MAX_ATTEMPTS": "100",
}


def night(directory: Path, frames: int) -> Path:
    done = trapline("simulate", "--frames", str(frames), "--fits", str(directory), cwd=directory, env=SMALL_SKY)
    assert done.returncode == 0, done.stderr
    return directory


def store(directory: Path) -> dict[str, str]:
    return {"TRAPLINE__DATABASE__DIRECTORY": str(directory / "postgres")}


def victims(pid: int, name: str, database: Path) -> list[int]:
    if name != "postgres":
        return children_of(pid, name)
    try:
        return [int(next((database / "postgres").rglob("postmaster.pid")).read_text().split()[0])]
    except (StopIteration, OSError, ValueError, IndexError):
        return []


def torture(
    child, database: Path, seconds: float, seed: int, names: Sequence[str] = VICTIMS, stops: float = 0.0
) -> Counter[str]:
    """Kill a random process of a mesh every second or so, for a while or until it has ended; return the deaths.

    A share `stops` of them is stopped for that time instead, and then goes on.
    """
    random, deaths, end = np.random.default_rng(seed), Counter(), time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end:
        name = str(random.choice(names))
        pids = victims(child.pid, name, database)
        pid, stopped = int(random.choice(pids)) if pids else 0, random.random() < stops and name != "postgres"
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if stopped else signal.SIGKILL)
                deaths["stopped" if stopped else name] += 1
        pause = time.monotonic() + random.uniform(0.2, 1.8)
        wait_for(lambda pause=pause: child.poll() is not None or time.monotonic() >= pause)
        if pid and stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    return deaths


def steady(tables: dict[str, str]) -> dict[str, str]:
    """Return tables without the events that depend on the order in which forced points arrive: those of `variable`."""
    lines = tables["transients"].splitlines(keepends=True)
    column = lines[0].split(",").index("kind")
    return tables | {"transients": "".join(line for line in lines if line.split(",")[column] != "variable")}


def tortured_like_undisturbed(tmp_path: Path, frames: int, seconds: float) -> Counter[str]:
    images = tmp_path / "night"
    images.mkdir()
    night(images, frames)
    found = []
    for name in ("undisturbed", "tortured"):
        cwd = tmp_path / name
        cwd.mkdir()
        with server_directory() as database:
            env = {**SETTINGS, **store(database)}
            if name == "undisturbed":
                report = process(images, store=str(cwd / "store"), cwd=cwd, env=env, timeout=1800)
                deaths = Counter()
            else:
                arguments = ("process", str(images), "--store", str(cwd / "store"), "--json")
                with running(*arguments, cwd=cwd, env=env, output=cwd / "output") as child:
                    wait_for(lambda cwd=cwd: list((cwd / "store" / "log").glob("database_dumper*")), what="the mesh")
                    deaths = torture(child, database, seconds, seed=frames)
                    child.wait(timeout=900)
                output = (cwd / "output").read_text()
                assert child.returncode == 0, output
                report = json.loads(output.splitlines()[-1])
            variables = {**env, "TRAPLINE__MESH__DATA_DIRECTORY": str(cwd / "store")}
            tables = exports(variables, cwd)
            for what, table in tables.items():
                (cwd / f"{what}.csv").write_text(table)  # for a person who has to find out what differs
            found.append(({k: v for k, v in report.items() if k not in ("seconds", "transients")}, steady(tables)))
    (counts, tables), (again, tables_again) = found
    assert again == counts
    for name, table in tables.items():
        assert tables_again[name] == table, name
    assert counts["images"]["received"] == 2 * frames
    return deaths


@pytest.mark.timeout(600)
def test_a_minute_of_kills_changes_no_row(tmp_path):
    deaths = tortured_like_undisturbed(tmp_path, frames=150, seconds=60)
    assert sum(deaths.values()) >= 10, deaths


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_minutes_of_kills_change_no_row(tmp_path):
    deaths = tortured_like_undisturbed(tmp_path, frames=1500, seconds=600)
    assert all(deaths[name] >= 5 for name in VICTIMS), deaths
