"""What a worker of a group holds: what waits, by how urgent it is, what is in its handler, and what is done."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

from trapline.common.channel import Record

_BEHIND_AT_ONCE = 4
_NICENESS = 10  # a tenth of the processor time of whoever else wants it


@dataclass
class Lot:
    """Channels whose records are as urgent as one another.

    `at_once` is how many are leased together, when none of them waits any more: so one is here when the last is done.
    """

    channels: tuple[str, ...]
    at_once: int = 1
    pool: Executor | None = None
    waiting: deque[Record] = field(default_factory=deque[Record])
    short: asyncio.Event = field(default_factory=asyncio.Event)


def lots_of(channels: Sequence[str], behind: Sequence[str]) -> list[Lot]:
    """Return the lots of a worker: what stands `behind` is handled by a thread of lower priority."""
    first = [Lot(tuple(channel for channel in channels if channel not in behind))]
    return [
        *first,
        *(Lot((channel,), _BEHIND_AT_ONCE, ThreadPoolExecutor(1, initializer=_yield)) for channel in behind),
    ]


def _yield() -> None:
    """Let all other threads of this machine go first, where a thread has a priority of its own."""
    if sys.platform == "linux":
        os.nice(_NICENESS)


class Hands:
    """Records in the hands of a worker: leased and waiting, in the handler, and done but not yet acknowledged."""

    def __init__(self, lots: Sequence[Lot]) -> None:
        self.lots = lots
        self.held: dict[tuple[str, str, int], Record] = {}
        self.handling: Record | None = None
        self.done: list[Record] = []
        self._arrived = asyncio.Event()
        for lot in lots:
            lot.short.set()

    def take_up(self, record: Record) -> None:
        """Hold a record, unless it is a second copy of one that is held."""
        key = _key(record)
        if key not in self.held:
            self.held[key] = record
            lot = self.lot_of(record)
            lot.waiting.append(record)
            lot.short.clear()
            self._arrived.set()

    def let_go(self, records: Iterable[Record]) -> None:
        """Hold records no more."""
        for record in records:
            self.held.pop(_key(record), None)

    def put_down(self) -> list[Record]:
        """Hold what waits no more, and want nothing until `want_more`; return what that was."""
        waited = [record for lot in self.lots for record in lot.waiting]
        for lot in self.lots:
            lot.waiting.clear()
            lot.short.clear()
        self.let_go(waited)
        return waited

    def want_more(self) -> None:
        """Want records again, of each lot of which none waits."""
        for lot in self.lots:
            if not lot.waiting:
                lot.short.set()

    def lot_of(self, record: Record) -> Lot:
        """Return the lot of a record."""
        return next(lot for lot in self.lots if record.place.channel in lot.channels)

    async def next(self) -> Record:
        """Return the most urgent record, once there is one."""
        while not (lots := [lot for lot in self.lots if lot.waiting]):
            self._arrived.clear()
            await self._arrived.wait()
        record = lots[0].waiting.popleft()
        if not lots[0].waiting:
            lots[0].short.set()
        return record


def _key(record: Record) -> tuple[str, str, int]:
    return record.place.channel, record.place.partition, record.place.seq
