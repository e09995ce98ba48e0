"""Calling a relay that may be away: again and again, with growing pauses, and one line in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from trapline.common.channel import RelayUnreachableError
from trapline.common.runtime.context import Backoff

T = TypeVar("T")

_log = structlog.get_logger()


class Patience:
    """Waits for the relay while it is away, and says so once each time.

    Parameters
    ----------
    limit_s
        How long in all a call may be tried; None for ever.
    """

    def __init__(self, limit_s: float | None = None) -> None:
        self._limit_s = limit_s
        self._away = False

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what an attempt returns, once one does.

        Raises
        ------
        RelayUnreachableError
            That of the last attempt, when the limit is reached.
        """
        loop, backoff = asyncio.get_running_loop(), Backoff()
        began = loop.time()
        while True:
            try:
                result = await attempt()
            except RelayUnreachableError as error:
                if self._limit_s is not None and loop.time() - began >= self._limit_s:
                    raise
                if not self._away:
                    _log.warning("waiting for the relay", reason=str(error))
                self._away = True
                await asyncio.sleep(backoff.next_s())
            else:
                if self._away:
                    _log.info("the relay is there again")
                self._away = False
                return result
