"""Whole meshes as child processes, run as a user runs them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REAL_IMAGES = ROOT / "tests" / "data" / "real"
TRAPLINE = [sys.executable, "-m", "trapline.cli"]

SMALL_SKY: Mapping[str, str] = {
    "TRAPLINE__SIMULATOR__NX": "256",
    "TRAPLINE__SIMULATOR__NY": "240",
    "TRAPLINE__SIMULATOR__N_STEADY": "15",
    "TRAPLINE__SIMULATOR__N_VARIABLE": "3",
    "TRAPLINE__SIMULATOR__FIELD_RADIUS_DEG": "12",
    "TRAPLINE__SIMULATOR__SEPARATION_BEAMS": "4",
    "TRAPLINE__SIMULATOR__CADENCE_S": "0.25",
    "TRAPLINE__SIMULATOR__TRANSIENT_INTERVAL_S": "5",
    "TRAPLINE__SIMULATOR__TRANSIENT_MIN_S": "2",
    "TRAPLINE__SIMULATOR__TRANSIENT_MAX_S": "5",
    "TRAPLINE__IMAGE_INGEST__QUALITY__RMS_HISTORY_SIGMA": "8",
}
"""A simulated telescope that costs little: a small image, a fast cadence, and frequent transients."""


def environment(*more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without settings of Trapline, and with those that are given."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TRAPLINE__")}
    for variables in more:
        plain |= variables
    return plain


def trapline(*arguments: str, cwd: Path, env: Mapping[str, str] = {}, timeout: float = 100) -> Any:
    """Run a command to its end, and return what `subprocess.run` does."""
    return subprocess.run(
        [*TRAPLINE, *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def process(*paths: Path, store: str, cwd: Path, env: Mapping[str, str] = {}, timeout: float = 100) -> dict[str, Any]:
    """Run `trapline process --json`, and return its last line."""
    done = trapline("process", *map(str, paths), "--store", store, "--json", cwd=cwd, env=env, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def running(
    *arguments: str, cwd: Path, env: Mapping[str, str] = {}, output: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block lasts; whatever is left of it is killed at the end.

    What it says goes to a file, if there is one: nobody need read it for the command to go on.
    """
    with output.open("w") if output else contextlib.nullcontext(subprocess.PIPE) as said:
        child = subprocess.Popen(
            [*TRAPLINE, *arguments],
            cwd=cwd,
            env=environment({"PYTHONUNBUFFERED": "1"}, env),
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        if child.poll() is None:
            children = children_of(child.pid)
            child.kill()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        child.communicate()


def children_of(pid: int, module: str = "") -> list[int]:
    """Return the child processes that run a Python module (any, by default)."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes().split(b"\0")
            if parent == pid and (not module or module.encode() in command):
                found.append(int(path.name))
    return sorted(found)


_RUNNING = ("n", "v", "eta")  # the object's state after a point, in the order of processing: a courtesy


def exports(env: Mapping[str, str], cwd: Path) -> dict[str, str]:
    """Return all tables of the store that some variables name as CSV, but for the running state of points."""
    found = {}
    for what in ("images", "objects", "lightcurves", "transients"):
        done = trapline("export", what, cwd=cwd, env=env)
        assert done.returncode == 0, done.stderr
        found[what] = _without(_RUNNING, done.stdout) if what == "lightcurves" else done.stdout
    return found


def _without(columns: tuple[str, ...], table: str) -> str:
    rows = list(csv.DictReader(io.StringIO(table)))
    text = io.StringIO()
    names = [name for name in (rows[0] if rows else ()) if name not in columns]
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
