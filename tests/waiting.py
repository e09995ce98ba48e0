"""Waiting for a condition, with a deadline: the only way in which tests wait."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def stop_process(pid: int) -> None:
    """Stop a process, and return when all its threads have stopped: the signal reaches them a while later."""
    os.kill(pid, signal.SIGSTOP)
    states = Path(f"/proc/{pid}/task").glob("*/stat")
    for state in list(states):
        wait_for(lambda state=state: state.read_text().rpartition(")")[2].split()[0] == "T", what="the stop")


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return when a condition is true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def wait_for(condition: Callable[[], T], seconds: float = 60, what: str = "it") -> T:
    """Return what a condition returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)
    return found
