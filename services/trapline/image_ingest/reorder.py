"""Holding images back for a moment, so that they go on in the order in which they were observed."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Held(Generic[T]):
    item: T
    due_s: float
    size_bytes: int
    gone: bool = False


@dataclass(slots=True)
class Reorder(Generic[T]):
    """Sorts what comes within a window of time by the start of observation.

    Everything waits for the window after it came; when it is due, whatever is older and came in the meantime goes
    before it. What comes even later goes on late. Once more than `max_bytes` are held the oldest observations go on
    before they are due.
    """

    window_s: float
    max_bytes: int
    held_bytes: int = 0
    hurried: int = 0
    """items that went on before they were due"""
    _heap: list[tuple[int, int, _Held[T]]] = field(default_factory=list)
    _arrivals: deque[_Held[T]] = field(default_factory=deque)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, item: T, start_us: int, size_bytes: int, now_s: float) -> list[T]:
        """Take an item, and return what may go on by now, in order."""
        held = _Held(item, now_s + self.window_s, size_bytes)
        heapq.heappush(self._heap, (start_us, next(self._numbers), held))
        self._arrivals.append(held)
        self.held_bytes += size_bytes
        ready = self.due(now_s)
        while self.held_bytes > self.max_bytes:
            ready.append(self._pop().item)
            self.hurried += 1
        return ready

    def due(self, now_s: float) -> list[T]:
        """Return what may go on by now, in order."""
        ready: list[T] = []
        while (first := self._first()) is not None and first.due_s <= now_s:
            while not first.gone:
                ready.append(self._pop().item)
        return ready

    def next_due_s(self) -> float | None:
        """Return when something will be due; None when nothing is held."""
        first = self._first()
        return first.due_s if first is not None else None

    def flush(self) -> list[T]:
        """Return everything that is held, in order."""
        return [self._pop().item for _ in range(len(self._heap))]

    def _first(self) -> _Held[T] | None:
        while self._arrivals and self._arrivals[0].gone:
            self._arrivals.popleft()
        return self._arrivals[0] if self._arrivals else None

    def _pop(self) -> _Held[T]:
        _, _, held = heapq.heappop(self._heap)
        held.gone = True
        self.held_bytes -= held.size_bytes
        return held
