"""Telling a relay that there are new records, without telling it once per record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trapline.common.relay.requests import Tick

INTERVAL_S = 0.001


class Ticker:
    """Tells at once, and while that is a millisecond ago, once for all that follow.

    A tick costs the writer and the relay more than a small record does, and wakes every reader. Used in a running loop.

    Parameters
    ----------
    notify
        Sends a tick; may be lossy.
    """

    def __init__(self, notify: Callable[[Tick], None]) -> None:
        self._notify = notify
        self._told_s: dict[tuple[str, str], float] = {}
        self._later: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def tell(self, channel: str, partition: str) -> None:
        """Tell, now or within a millisecond, that a partition has new records."""
        key, loop = (channel, partition), asyncio.get_running_loop()
        if loop.time() - self._told_s.get(key, float("-inf")) >= INTERVAL_S:
            self._told_s[key] = loop.time()
            self._notify(Tick(channel=channel, partition=partition))
        elif key not in self._later:
            self._later[key] = loop.call_at(self._told_s[key] + INTERVAL_S, self._tell_again, key)

    def flush(self) -> None:
        """Tell now what would have been told later."""
        for key in list(self._later):
            self._later[key].cancel()
            self._tell_again(key)

    def _tell_again(self, key: tuple[str, str]) -> None:
        del self._later[key]
        self._told_s.pop(key)
        self.tell(*key)
