"""Torture from sockets: a telescope cannot be asked twice, so that the measure is a replay of the recorded `images`."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from integration.test_torture import SETTINGS, VICTIMS, store, torture
from mesh_runs import exports, running, trapline
from trapline.common.journal import PartitionReader
from trapline.common.testing.postgres import server_directory
from waiting import wait_for

# What ingest has not appended when it dies, the telescope does not send again.
FOLLOWING = tuple(name for name in VICTIMS if name != "trapline.image_ingest")
NO_CLOCKS = {
    **SETTINGS,
    "TRAPLINE__RELAY__PORT": "0",
    "TRAPLINE__DASHBOARD__REPLICAS": "0",
    "TRAPLINE__ASSOCIATOR__IDLE_AFTER_S": "3600",
    "TRAPLINE__ASSOCIATOR__MAX_HOLD_S": "3600",
    "TRAPLINE__MESH__DRAIN_S": "120",
}


def tortured(directory: Path, frames: int, seconds: float) -> tuple[dict[str, str], Counter[str]]:
    """Run a simulated telescope into a mesh that is tortured; return what was stored, and the deaths."""
    with server_directory() as database:
        env = {**NO_CLOCKS, **store(database)}
        output = directory / "output"
        with running("up", "--simulate", "--frames", str(frames), cwd=directory, env=env, output=output) as child:
            wait_for(lambda: recorded(directory) > 2, 120, "the first images")
            deaths = torture(child, database, seconds, seed=frames, names=FOLLOWING, stops=0.2)
            child.wait(timeout=900)
        assert child.returncode == 0, output.read_text()
        return exports(env, directory), deaths


def recorded(directory: Path) -> int:
    path = directory / "trapline-data" / "journal" / "images" / "0"
    return PartitionReader(path).next_seq if path.exists() else 0


def replayed(directory: Path, images: Path, count: int) -> dict[str, str]:
    """Run a mesh without a telescope over recorded images; return what was stored."""
    shutil.copytree(images, directory / "trapline-data" / "journal" / "images")
    with server_directory() as database:
        env = {**NO_CLOCKS, **store(database), "TRAPLINE__IMAGE_INGEST__REPLICAS": "0"}

        def stored() -> bool:
            done = trapline("export", "images", cwd=directory, env=env)
            return done.returncode == 0 and len(done.stdout.splitlines()) > count

        with running("up", cwd=directory, env=env) as child:
            wait_for(stored, 900, "the last image")
            child.send_signal(signal.SIGINT)
            output = child.communicate(timeout=300)[0]
        assert child.returncode == 0, output
        return exports(env, directory)


def tortured_like_its_replay(tmp_path: Path, frames: int, seconds: float) -> Counter[str]:
    first, second = tmp_path / "tortured", tmp_path / "replayed"
    first.mkdir()
    second.mkdir()
    tables, deaths = tortured(first, frames, seconds)
    again = replayed(second, first / "trapline-data" / "journal" / "images", 2 * frames)
    assert len(tables["images"].splitlines()) == 2 * frames + 1
    for name, table in tables.items():
        assert again[name] == table, name
    return deaths


@pytest.mark.timeout(600)
def test_kills_are_stored_like_their_replay(tmp_path):
    """Twenty seconds of them; the minute is the one of `test_torture`."""
    deaths = tortured_like_its_replay(tmp_path, frames=50, seconds=20)
    assert sum(deaths.values()) >= 4, deaths


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_minutes_of_kills_are_stored_like_their_replay(tmp_path):
    deaths = tortured_like_its_replay(tmp_path, frames=1500, seconds=600)
    assert all(deaths[name] >= 5 for name in (*FOLLOWING, "stopped")), deaths
