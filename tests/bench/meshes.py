"""Meshes and single services as child processes, as a user runs them, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.harness import InvalidRunError
from bench.helpers import cpu_s
from mesh_runs import TRAPLINE, children_of, environment
from trapline.common.supervisor.environment import Tables, child_environment, merged

T = TypeVar("T")

_PATIENCE_S = 60.0
SERVICES = ("image_ingest", "source_extractor", "associator", "transient_finder", "database_dumper")


@dataclass(frozen=True, slots=True)
class Running:
    """A child process, and the directory in which it has its data."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def relay(self) -> str:
        """Address of the relay over tcp, once it listens."""
        path = self.directory / "relay.address"
        return eventually(lambda: path.exists() and path.read_text().strip(), "the relay", self)

    def cpu_s(self) -> dict[str, float]:
        """Return the processor time that each process of a mesh has used, by the name of the service."""
        used = {}
        for module in ("trapline.common.relay", *(f"trapline.{name}" for name in SERVICES)):
            pids = children_of(self.process.pid, module)
            used[module.rpartition(".")[2]] = sum(cpu_s(pid) for pid in pids)
        return used


@contextmanager
def running(arguments: list[str], directory: Path, tables: Tables) -> Iterator[Running]:
    """Run a Python program that is configured by these tables; it is told to stop when the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = merged({"mesh": {"data_directory": str(directory)}, "relay": {"port": 0}}, tables)
    with (directory / "output.log").open("wb") as log:
        process = subprocess.Popen(
            arguments, cwd=directory, env=environment(child_environment(settings)), stdout=log, stderr=log
        )
        try:
            yield Running(process, directory)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def running_service(module: str, directory: Path, tables: Tables) -> contextlib.AbstractContextManager[Running]:
    """Run one process of a mesh."""
    return running([sys.executable, "-m", module], directory, tables)


def running_mesh(directory: Path, tables: Tables) -> contextlib.AbstractContextManager[Running]:
    """Run a whole mesh."""
    return running([*TRAPLINE, "up"], directory, tables)


def eventually(
    condition: Callable[[], T], what: str, child: Running | None = None, patience_s: float = _PATIENCE_S
) -> T:
    """Return what a condition returns once that is true.

    Raises
    ------
    InvalidRunError
        When that takes too long, or the child has ended.
    """
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        if child is not None and child.process.poll() is not None:
            text = (child.directory / "output.log").read_text(errors="replace").strip()
            raise InvalidRunError(f"{what}: the process has ended: {text[-500:]}")
        if time.monotonic() > deadline:
            raise InvalidRunError(f"{what} did not happen within {patience_s:g} s")
        time.sleep(0.005)
    return found
