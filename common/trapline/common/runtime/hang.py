"""Work that hangs: a thread cannot be ended from outside, so its process says where it hung, and ends itself."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

_LOOK_S = 1.0


class HangError(RuntimeError):
    """Work took longer than it may. The text has the stack of its thread. The process must end: the thread will not."""


async def in_thread(work: Callable[[], T], limit_s: float, pool: Executor | None = None) -> T:
    """Run something in a thread, of a pool if one is given, and return its result.

    Only time in which this process ran counts: one that was stopped and continued has not hung.

    Raises
    ------
    HangError
        When it takes longer than `limit_s` seconds.
    """
    thread: list[int] = []

    def run() -> T:
        thread.append(threading.get_ident())
        return work()

    context = contextvars.copy_context()
    task = asyncio.get_running_loop().run_in_executor(pool, context.run, run)
    try:
        if await _done_within(task, limit_s):
            return task.result()
    except asyncio.CancelledError:
        task.cancel()
        raise
    raise HangError(f"it hung for {limit_s:g} s, here:\n{_stack(thread)}")


async def _done_within(task: asyncio.Future[T], limit_s: float) -> bool:
    loop, spent_s = asyncio.get_running_loop(), 0.0
    while spent_s < limit_s:
        step_s = min(_LOOK_S, limit_s - spent_s)
        before = loop.time()
        await asyncio.wait({task}, timeout=step_s)
        if task.done():
            return True
        spent_s += min(loop.time() - before, step_s)
    return False


def _stack(thread: list[int]) -> str:
    frame = sys._current_frames().get(thread[0]) if thread else None  # noqa: SLF001  the documented way to a stack
    return "".join(traceback.format_stack(frame)) if frame else "no thread was free to begin with it"
