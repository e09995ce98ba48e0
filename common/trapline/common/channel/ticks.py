"""Telling a relay that there are new records, without telling it once per record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from trapline.common.relay.requests import Tick

INTERVAL_S = 0.001
BUSY_INTERVAL_S = 0.005
MANY = 20


@dataclass(slots=True)
class _Partition:
    """When a partition was last told of, what was appended since, and how long the rest waits."""

    told_s: float = float("-inf")
    records: int = 0
    interval_s: float = INTERVAL_S
    later: asyncio.TimerHandle | None = None


class Ticker:
    """Tells at once, and while that is a millisecond ago, once for all that follow.

    A tick costs the writer and the relay more than a small record does, and wakes every reader: of a partition that
    gets more than `MANY` records in a millisecond it tells every five. Used in a running loop.

    Parameters
    ----------
    notify
        Sends a tick; may be lossy.
    """

    def __init__(self, notify: Callable[[Tick], None]) -> None:
        self._notify = notify
        self._partitions: dict[tuple[str, str], _Partition] = {}

    def tell(self, channel: str, partition: str) -> None:
        """Tell, now or within the interval, that a partition has new records."""
        key = (channel, partition)
        state = self._partitions.get(key) or self._partitions.setdefault(key, _Partition())
        state.records += 1
        if state.later:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - state.told_s >= state.interval_s:
            self._tell(key, state, loop.time())
        else:
            state.later = loop.call_at(state.told_s + state.interval_s, self._tell_later, key)

    def flush(self) -> None:
        """Tell now what would have been told later."""
        for key, state in self._partitions.items():
            if state.later:
                state.later.cancel()
                self._tell_later(key)

    def _tell_later(self, key: tuple[str, str]) -> None:
        state = self._partitions[key]
        state.later = None
        self._tell(key, state, asyncio.get_running_loop().time())

    def _tell(self, key: tuple[str, str], state: _Partition, now_s: float) -> None:
        state.interval_s = BUSY_INTERVAL_S if state.records > MANY else INTERVAL_S
        state.told_s, state.records = now_s, 0
        self._notify(Tick(channel=key[0], partition=key[1]))
