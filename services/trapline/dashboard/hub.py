"""Telling open pages that there is news: nobody there, no work; a slow page skips, it is never queued for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager


class Hub:
    """A version per topic, and who watches it.

    Parameters
    ----------
    tick_s
        Shortest time between two ticks for one viewer.
    """

    def __init__(self, tick_s: float) -> None:
        self._tick_s = tick_s
        self._versions: Counter[str] = Counter()
        self._watching: Counter[str] = Counter()
        self._waiting: set[asyncio.Event] = set()
        self._someone = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._waiting)

    def watched(self, topic: str) -> bool:
        """Tell whether a page about a topic is open."""
        return self._watching[topic] > 0

    def state(self, topics: Iterable[str]) -> int:
        """Return what grows with every bump of some topics: what was made of them in the same state says the same."""
        return sum(self._versions[topic] for topic in topics)

    async def somebody(self) -> None:
        """Return when a page is open."""
        await self._someone.wait()

    def bump(self, topics: Iterable[str]) -> None:
        """Say that topics have news."""
        for topic in topics:
            self._versions[topic] += 1
        for event in self._waiting:
            event.set()

    def close(self) -> None:
        """Send every viewer away."""
        self._closing.set()
        for event in self._waiting:
            event.set()

    async def ticks(self, topics: frozenset[str], tick_s: float | None = None) -> AsyncIterator[dict[str, int]]:
        """Yield the versions of some topics, at once and whenever one has grown, until `close`.

        What changes while the viewer is busy with the last tick becomes one tick.
        """
        pause_s = self._tick_s if tick_s is None else tick_s
        with self._viewer(topics) as news:
            seen: dict[str, int] | None = None
            while not self._closing.is_set():
                news.clear()
                now = {topic: self._versions[topic] for topic in sorted(topics)}
                if now != seen:
                    seen = now
                    yield now
                    await self._pause(pause_s)
                else:
                    await news.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    @contextmanager
    def _viewer(self, topics: frozenset[str]) -> Iterator[asyncio.Event]:
        news = asyncio.Event()
        self._waiting.add(news)
        self._watching.update(topics)
        self._someone.set()
        try:
            yield news
        finally:
            self._waiting.discard(news)
            self._watching.subtract(topics)
            if not self._waiting:
                self._someone.clear()
