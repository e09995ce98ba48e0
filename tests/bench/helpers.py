"""Processes that do half of a measurement, and start when told to."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 60.0


class Helper:
    """A child process that does what it is told, one thing after the other."""

    def __init__(self, pipe: Connection, process: Any) -> None:
        self._pipe, self._process = pipe, process

    def tell(self, value: Any) -> None:
        """Send a value to the child."""
        self._pipe.send(value)

    def hear(self) -> Any:
        """Return what the child sends, or raise when it has died."""
        if not self._pipe.poll(_PATIENCE_S):
            raise TimeoutError(f"a child said nothing for {_PATIENCE_S:g} s")
        return self._pipe.recv()


@contextmanager
def helper(work: Callable[..., None], *arguments: Any) -> Iterator[Helper]:
    """Run ``work(pipe, *arguments)`` in a new process; when the block ends, the pipe closes and so should the work."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield Helper(ours, process)
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()


def told(pipe: Connection) -> Iterator[Any]:
    """Yield what a child is told, until the parent closes the pipe."""
    while True:
        try:
            yield pipe.recv()
        except (EOFError, ConnectionResetError):
            return


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, its own and the kernel's on its behalf, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_bytes(pid: int | None = None) -> int:
    """Return the resident memory of a process, by default this one."""
    pages = Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
