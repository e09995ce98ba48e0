"""The tutorial runs from its first cell to its last, and the pictures are pictures."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightcurve_messages as mesh
from mesh_runs import environment, trapline
from trapline.client import open_store
from trapline.common.ids import text_id
from trapline.common.postgres.connection import open_database
from trapline.common.store.plot import plot_lightcurve
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind
from trapline.schemas.lightcurves import Fork
from trapline.schemas.message import Message

ROOT = Path(__file__).parents[3]
README, TUTORIAL = ROOT / "README.md", ROOT / "deploy/notebooks/lightcurves.ipynb"


@pytest.fixture
def filled(dsn: str) -> str:
    """Points that are blind, forced, inherited, missing and far apart."""
    root, *children = mesh.object_ids(3)
    messages: list[Message[Any]] = []
    for i, kind in enumerate([Kind.BLIND, Kind.FORCED, Kind.FORCED, Kind.BLIND, Kind.BACKFILL]):
        objects = [root] if i < 2 else children
        forks = {"forks": [Fork(root, children)], "retired": [root]} if i == 2 else {}
        number = i if i < 4 else 100
        message = mesh.lightcurves_message(number, objects, kind=kind, **forks)
        flux = np.full(len(objects), np.nan if i == 4 else 1.0 + 9 * (kind == Kind.BLIND))
        arrays = {"flux_int": flux, "flux_int_err": np.full(len(objects), 1.0)}
        messages += [mesh.images_message(number), Message(message.header, dict(message.arrays) | arrays)]

    async def put() -> None:
        async with open_database(dsn) as database, database.connection() as con:
            await store_batch(con, "test", [rows_of(mesh.place("any", i), m) for i, m in enumerate(messages)])

    asyncio.run(put())
    return dsn


def test_the_tutorial_runs(filled: str, tmp_path: Path) -> None:
    cells = json.loads(TUTORIAL.read_text())["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    env = environment({"TRAPLINE__DATABASE__DSN": filled})
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(not cell.get("outputs") for cell in cells), "the tutorial is committed without output"


def test_the_readme_reads_the_store(filled: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if "open_store" in block)
    shown = code.replace("350.0, 52.9, 20.0", "85.0, 22.5, 90.0") + "\nprint(len(objects), len(curve))"
    assert shown.count("85.0") == 1
    env = environment({"TRAPLINE__DATABASE__DSN": filled})
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(int(count) > 0 for count in done.stdout.split())


def test_a_picture_shows_detections_limits_and_what_was_inherited(filled: str) -> None:
    with open_store(filled) as store:
        figure = plot_lightcurve(store.lightcurve(mesh.object_ids(3)[1]))
    (axes,) = figure.axes
    markers = {line.get_marker(): line for line in axes.lines if line.get_marker() not in ("None", "")}
    assert set(markers) == {"o", "v"}
    assert markers["v"].get_ydata().tolist() == [4.0, 4.0], "max(1, 0) + 3 sigma, twice forced"
    assert axes.get_ylabel() == "integrated flux (Jy)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["60.1 MHz"]


def test_the_command_draws_and_says_what_it_cannot(filled: str, tmp_path: Path) -> None:
    target, env = text_id(mesh.object_ids(3)[1]), {"TRAPLINE__DATABASE__DSN": filled}
    done = trapline("lightcurve", target, "--plot", "out.png", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "5 points drawn in out.png" in done.stderr
    done = trapline("lightcurve", target, "--plot", "out.xyz", cwd=tmp_path, env=env)
    assert done.returncode == 1 and "xyz" in done.stderr and "Traceback" not in done.stderr
    done = trapline("lightcurve", target, "--since", "soon", cwd=tmp_path, env=env)
    assert done.returncode == 2 and "a time looks like" in done.stderr
    done = trapline("cone", "1", "2", "3", cwd=tmp_path)
    assert done.returncode == 1 and "there is no store in" in done.stderr
    done = trapline("export", "objects", "--output", "o.parquet", cwd=tmp_path, env=env)
    assert done.returncode == 0 and (tmp_path / "o.parquet").read_bytes().startswith(b"PAR1")
