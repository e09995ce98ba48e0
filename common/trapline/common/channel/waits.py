"""Long polls at several relays at once: what is not taken from one now is there when it is asked for again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import structlog

from trapline.common.channel.interface import RelayRefusedError, RelayUnreachableError, Reply
from trapline.common.channel.peer import Peer
from trapline.common.relay.requests import Cursor, Fetch, Item, Lease

_REFUSED_S = 30.0  # how long a relay that refuses a group is not asked again
_log = structlog.get_logger()

Task = asyncio.Task[Reply]
Question = tuple[Peer, tuple[tuple[str, str, int, int], ...]]
"""a relay, and what it is asked for: (channel, partition, seq, epoch)"""


class _Asked(NamedTuple):
    task: Task
    round: int


@dataclass
class _Reader:
    """What a reader waits for at each relay, and who answered in this round."""

    asked: dict[Question, _Asked] = field(default_factory=dict)
    answered: set[Peer] = field(default_factory=set)
    round: int = 0


class Answers(NamedTuple):
    """Answers of some relays."""

    replies: list[Reply]
    complete: bool
    """whether every relay has answered a request that was made since this was true last"""
    changed: list[Peer]
    """relays whose list of partitions is another"""


class FetchWaits:
    """Fetches that wait at several relays, for readers that ask for the same cursors until something comes."""

    def __init__(self) -> None:
        self._readers: dict[Any, _Reader] = {}

    async def wait(
        self, request: Fetch, parts: Mapping[Peer, Sequence[Cursor]], change: asyncio.Event, *, news: bool
    ) -> Answers:
        """Return what the first relays bring.

        Parameters
        ----------
        request
            The reader's; its cursors are in `parts`, by relay.
        change
            Set when the list of partitions changes: that ends the wait.
        news
            Whether it has changed already.
        """
        # A reader has its channels. Two that follow the same ones have questions of their own, and a common round.
        name = (request.headers_only, frozenset(c.channel for c in request.cursors))
        reader = self._readers.setdefault(name, _Reader())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_ms / 1000
        replies: list[Reply] = []
        changed: list[Peer] = []
        while True:
            tasks = self._ask(reader, request, parts)
            left = 0.0 if news else max(0.0, deadline - loop.time())
            await _first(list(tasks.values()), left, or_change=change)
            for question in [question for question, task in tasks.items() if task.done()]:
                reply, peer = self._collect(reader, question), question[0]
                if reply is not None:
                    replies.append(reply)
                    changed += [peer] if reply.values["catalogue"] != peer.catalogue else []
            news = news or change.is_set() or bool(changed)
            if news or any(reply.values["slabs"] for reply in replies) or loop.time() >= deadline:
                return Answers(replies, self._complete(reader, parts), changed)

    async def close(self) -> None:
        """Wait for nothing any more."""
        await _end([asked.task for reader in self._readers.values() for asked in reader.asked.values()])

    @staticmethod
    def _ask(reader: _Reader, request: Fetch, parts: Mapping[Peer, Sequence[Cursor]]) -> dict[Question, Task]:
        """Ask what is not asked yet, and return all that this request waits for."""
        questions = {
            (peer, tuple(sorted((c.channel, c.partition, c.seq, c.epoch) for c in cursors))): cursors
            for peer, cursors in parts.items()
        }
        # An answer to what nobody asks any more is of no use to anyone.
        for stale in [q for q, asked in reader.asked.items() if asked.task.done() and q not in questions]:
            del reader.asked[stale]
        for (peer, spots), cursors in questions.items():
            if (peer, spots) not in reader.asked and peer.trouble is None:
                reader.asked[peer, spots] = _Asked(_fetching(peer, request, cursors), reader.round)
        return {question: reader.asked[question].task for question in questions if question in reader.asked}

    @staticmethod
    def _collect(reader: _Reader, question: Question) -> Reply | None:
        asked, peer = reader.asked.pop(question, None), question[0]
        if asked is None:
            return None
        try:
            reply = asked.task.result()
        except (RelayUnreachableError, RelayRefusedError) as error:
            peer.lose(error)
            return None
        if asked.round == reader.round:
            reader.answered.add(peer)
        return reply

    @staticmethod
    def _complete(reader: _Reader, parts: Mapping[Peer, Sequence[Cursor]]) -> bool:
        if not parts.keys() <= reader.answered:
            return False
        reader.round += 1
        reader.answered.clear()
        return True


@dataclass
class _Worker:
    """What a worker waits for at each relay, of some channels, and what has come and was not taken."""

    asked: dict[Peer, Task] = field(default_factory=dict)
    ready: deque[tuple[Peer, Reply]] = field(default_factory=deque)
    refused_until: dict[Peer, float] = field(default_factory=dict)

    def take(self, now: float) -> tuple[Peer, Reply] | None:
        """Return records that have come; None when there are none."""
        self.collect(now)
        return self.ready.popleft() if self.ready else None

    def collect(self, now: float) -> None:
        for peer in [peer for peer, task in self.asked.items() if task.done()]:
            try:
                reply = self.asked.pop(peer).result()
            except RelayUnreachableError as error:
                peer.lose(error)
            except RelayRefusedError as error:
                self.refused_until[peer] = now + _REFUSED_S
                _log.warning("a relay gives no work", relay=peer.address, reason=str(error))
            else:
                if reply.values["slabs"]:
                    self.ready.append((peer, reply))


class LeaseWaits:
    """Leases that wait at several relays. What one brought while the worker was busy is extended with what it holds."""

    def __init__(self, home: Peer) -> None:
        self._home = home
        self._workers: dict[tuple[str, str], dict[tuple[str, ...], _Worker]] = {}

    async def wait(self, request: Lease, peers: Sequence[Peer]) -> tuple[Peer, Reply] | None:
        """Return what the first relay brings; None when none did in time."""
        waiting = self._workers.setdefault((request.group, request.worker), {})
        worker = waiting.setdefault(tuple(request.channels), _Worker())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_ms / 1000
        if found := worker.take(loop.time()):
            return found
        while True:
            self._ask(worker, request, peers, loop.time())
            left = max(0.0, deadline - loop.time())
            tasks = list(worker.asked.values())
            if request.wait_ms == 0 and tasks:
                await asyncio.wait(tasks)
            else:
                await _first(tasks, left)
            found = worker.take(loop.time())
            if found or loop.time() >= deadline:
                return found

    def on_the_way(self, group: str, worker: str, peer: Peer) -> list[Item]:
        """Return what a relay has leased to a worker who has not taken it yet."""
        waiting = self._workers.get((group, worker), {}).values()
        for found in waiting:
            found.collect(asyncio.get_running_loop().time())
        ready = (came for found in waiting for came in found.ready)
        slabs = [slab for p, reply in ready if p is peer for slab in reply.values["slabs"]]
        return [Item(s["channel"], s["partition"], *entry[:2]) for s in slabs for entry in s["records"]]

    def forget(self, group: str, worker: str) -> None:
        """Forget what is on its way to a worker that leaves."""
        for found in self._workers.pop((group, worker), {}).values():
            for task in found.asked.values():
                task.cancel()

    async def close(self) -> None:
        """Wait for nothing any more."""
        waiting = (worker for found in self._workers.values() for worker in found.values())
        await _end([task for worker in waiting for task in worker.asked.values()])

    def _ask(self, worker: _Worker, request: Lease, peers: Iterable[Peer], now: float) -> None:
        for peer in peers:
            if peer not in worker.asked and peer.trouble is None and worker.refused_until.get(peer, 0.0) <= now:
                # What another host has must travel.
                here = request.headers_only and peer is self._home
                own = msgspec.structs.replace(request, headers_only=here)
                task = asyncio.create_task(peer.connection.lease(own), name=f"lease from {peer.address}")
                task.add_done_callback(_retrieve)
                worker.asked[peer] = task


def _fetching(peer: Peer, request: Fetch, cursors: Sequence[Cursor]) -> Task:
    own = msgspec.structs.replace(request, cursors=list(cursors), catalogue=peer.catalogue)
    task = asyncio.create_task(peer.connection.fetch(own), name=f"fetch from {peer.address}")
    task.add_done_callback(_retrieve)
    return task


async def fetch_now(request: Fetch, parts: Mapping[Peer, Sequence[Cursor]]) -> Answers:
    """Return what all relays have at this moment."""
    tasks = {peer: _fetching(peer, request, cursors) for peer, cursors in parts.items()}
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    replies, changed = [], []
    for peer, result in zip(tasks, results, strict=True):
        if isinstance(result, (RelayUnreachableError, RelayRefusedError)):
            peer.lose(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            replies.append(result)
            changed += [peer] if result.values["catalogue"] != peer.catalogue else []
    return Answers(replies, len(replies) == len(parts), changed)


async def _first(tasks: Sequence[Task], left_s: float, *, or_change: asyncio.Event | None = None) -> None:
    """Return when the first of some tasks is done, when something changes, or after a time."""
    changing = asyncio.create_task((or_change or asyncio.Event()).wait())
    try:
        await asyncio.wait({*tasks, changing}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changing.cancel()


async def _end(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _retrieve(task: Task) -> None:
    """Take notice of an error that nobody may ask for."""
    if not task.cancelled():
        task.exception()
