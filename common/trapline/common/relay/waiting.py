"""Requests that wait for records: found by the channels they are about, and by when their patience ends."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trapline.common.relay.requests import Fetch, Lease
from trapline.common.security.guard import Peer


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that is answered when there is something, or at its deadline (seconds of a monotonic clock)."""

    peer: bytes
    request: Fetch | Lease
    deadline: float
    who: Peer = None

    @property
    def channels(self) -> set[str]:
        """Return the channels whose news concern it."""
        if isinstance(self.request, Lease):
            return set(self.request.channels)
        return {cursor.channel for cursor in self.request.cursors}


class Waiters:
    """All requests that wait. News of a channel cost nothing to those who wait for others."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._waiters: dict[int, Waiter] = {}
        self._of_channel: dict[str, set[int]] = {}
        self._of_peer: dict[bytes, set[int]] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, number: int) -> bool:
        return number in self._waiters

    def count_of(self, peer: bytes) -> int:
        """Return how many requests of a peer wait."""
        return len(self._of_peer.get(peer, ()))

    def add(self, waiter: Waiter) -> None:
        """Let a request wait, behind those that wait already."""
        number = next(self._numbers)
        self._waiters[number] = waiter
        for channel in waiter.channels:
            self._of_channel.setdefault(channel, set()).add(number)
        self._of_peer.setdefault(waiter.peer, set()).add(number)
        heapq.heappush(self._deadlines, (waiter.deadline, number))

    def concerned(self, channels: Iterable[str] | None) -> list[tuple[int, Waiter]]:
        """Return (number, request) of those that news of some channels concern, or of all, in the order they came."""
        if channels is None:
            return list(self._waiters.items())
        numbers = set[int]().union(*(self._of_channel.get(channel, ()) for channel in channels))
        return [(number, self._waiters[number]) for number in sorted(numbers)]

    def due(self, now: float) -> list[tuple[int, Waiter]]:
        """Return (number, request) of those whose deadline has come."""
        found = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, number = heapq.heappop(self._deadlines)
            if number in self._waiters:
                found.append((number, self._waiters[number]))
        return found

    def next_deadline(self) -> float | None:
        """Return when the first deadline comes; None when nobody waits."""
        while self._deadlines and self._deadlines[0][1] not in self._waiters:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def remove(self, number: int) -> None:
        """Let a request wait no more."""
        waiter = self._waiters.pop(number)
        for channel in waiter.channels:
            self._of_channel[channel].discard(number)
            if not self._of_channel[channel]:
                del self._of_channel[channel]
        self._of_peer[waiter.peer].discard(number)
        if not self._of_peer[waiter.peer]:
            del self._of_peer[waiter.peer]

    def any_lease_of(self, group: str) -> bool:
        """Tell whether a worker of a group waits for records."""
        return any(isinstance(w.request, Lease) and w.request.group == group for w in self._waiters.values())

    def remove_of_peer(self, peer: bytes) -> list[Waiter]:
        """Let no request of a peer wait any more, and return those that did."""
        return self._take(list(self._of_peer.get(peer, ())))

    def remove_if(self, chosen: Callable[[Waiter], bool]) -> list[Waiter]:
        """Let some requests wait no more, and return them."""
        return self._take([number for number, waiter in self._waiters.items() if chosen(waiter)])

    def _take(self, numbers: list[int]) -> list[Waiter]:
        found = [self._waiters[number] for number in numbers]
        for number in numbers:
            self.remove(number)
        return found
