"""The relay without its sockets: requests in, answers out, time given from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from trapline.common.relay.ledger import Ledger
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.partitions import Appender, Partition, Partitions
from trapline.common.relay.requests import (
    AnyRequest,
    Append,
    Fetch,
    Find,
    Info,
    Lease,
    RequestError,
    Tick,
    pack_error,
    pack_reply,
    parse_request,
    request_id,
)
from trapline.common.relay.serving import overview, serve_fetch, serve_lease
from trapline.common.relay.waiting import Waiter, Waiters
from trapline.common.security.guard import Guard, Peer
from trapline.common.security.trust import TrustList

Frames = list[Any]
Answer = tuple[bytes, Frames]
"""(peer, frames)"""


_MOST_WAITING = 100  # requests of one peer that may wait


class RelayCore:
    """Serves records, wherever they are.

    Parameters
    ----------
    partitions
        Where the records are: for a relay the journals of its host.
    appender
        Appends for remote publishers.
    memory
        Where acknowledgements and positions are kept.
    lease_s
        How long a lease lasts without being extended.
    trusted
        Keys of peers from elsewhere, and what each may do. Without it only programs of this host are served.
    facts
        What `info` says besides: of the disk.
    """

    def __init__(
        self,
        partitions: Partitions,
        appender: Appender,
        memory: RelayMemory,
        *,
        lease_s: float,
        trusted: TrustList | None = None,
        facts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.catalogue = partitions
        self.counters: Counter[str] = Counter()
        self.guard = Guard(trusted, self.counters)
        self._memory = memory
        self._facts = facts
        self._appender = appender
        self._waiters = Waiters()
        self._ledger = Ledger(partitions, memory, self._waiters, self.counters, lease_s=lease_s)
        self.groups, self.readers = self._ledger.groups, self._ledger.readers
        self._news: set[str] = set()
        self._news_for_all = False

    def handle(self, peer: bytes, frames: Frames, now: float, who: Peer = None) -> Iterator[Answer]:
        """Serve one request of a peer, `who` by its key. Whatever the frames are, this does not raise."""
        first = frames[0] if frames else b""
        try:
            request = parse_request(first)
        except RequestError as error:
            self.counters["requests_refused"] += 1
            reply: Frames | None = pack_error(request_id(first), str(error))
        else:
            reply = self._served(request, lambda: self._dispatch(peer, request, frames[1:], now, who))
        if reply:
            yield peer, reply

    def advance(self, now: float, *, poll: bool = False) -> Iterator[Answer]:
        """Answer those who wait and whose time has come; with `poll`, look for records that no tick announced."""
        if poll:
            self._look_around()
        self.counters["leases_expired"] += self._ledger.expire(now)
        self._news |= self._ledger.news
        self._ledger.news.clear()
        if self._news or self._news_for_all:
            concerned = self._waiters.concerned(None if self._news_for_all else self._news)
            self._news, self._news_for_all = set(), False
            yield from self._answer_waiting(concerned, now, due=False)
        yield from self._answer_waiting(self._waiters.due(now), now, due=True)
        self._ledger.remember()

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do even if nothing happens."""
        times = (self._waiters.next_deadline(), self.groups.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def forget_peer(self, peer: bytes) -> None:
        """Give up the requests of a peer that has gone, and give back the leases of the workers it spoke for."""
        self._waiters.remove_of_peer(peer)
        self._ledger.forget_peer(peer)

    def note_stall(self, seconds: float) -> None:
        """Give leases the time in which this process could not be told that they are extended."""
        self.counters["stalls"] += 1
        self.groups.postpone(seconds)

    def close(self) -> None:
        """Write what is not written, and let go of the files."""
        self._ledger.remember()
        self._appender.close()
        self._memory.close()

    @property
    def n_waiting(self) -> int:
        """Number of requests that wait for records."""
        return len(self._waiters)

    def _look_around(self) -> None:
        """Take notice of records and partitions that nobody announced."""
        self._news_for_all |= self.catalogue.discover()
        self._news.update(channel for channel, _ in self.catalogue.refresh())

    def _look_at(self, channel: str, partition: str) -> None:
        version = self.catalogue.version
        if self.catalogue.refresh_one((channel, partition)):
            self._news.add(channel)
        self._news_for_all |= self.catalogue.version != version

    def _answer_waiting(self, waiting: list[tuple[int, Waiter]], now: float, *, due: bool) -> Iterator[Answer]:
        for number, waiter in waiting:
            # The one before may have found its peer gone, and with it all that this peer asked for.
            if number not in self._waiters:
                continue
            self.counters["waiters_looked_at"] += 1
            reply = self._served(waiter.request, partial(self._answer_waiter, waiter, now, empty=due))
            if reply:
                self._waiters.remove(number)
                yield waiter.peer, reply

    def _answer_waiter(self, waiter: Waiter, now: float, *, empty: bool) -> Frames | None:
        # Whoever was trusted when he asked may be so no more.
        self.guard.check(waiter.who, waiter.request)
        return self._answer(waiter.peer, waiter.request, now, empty=empty)

    def _served(self, request: AnyRequest, serve: Callable[[], Frames | None]) -> Frames | None:
        """Return the answer to a request, a refusal when it cannot be served."""
        try:
            return serve()
        except RequestError as error:
            self.counters["requests_refused"] += 1
            text = str(error)
        except OSError as error:
            self.counters["requests_failed"] += 1
            text = f"{error.strerror}: {error.filename or 'the journal'}"
        except (IndexError, ValueError, OverflowError) as error:
            # A journal that is damaged in a way that nobody thought of: one request fails, the relay goes on.
            self.counters["requests_failed"] += 1
            text = f"the journal cannot be read: {error}"
        return pack_error(request.id, text)

    def _dispatch(self, peer: bytes, request: AnyRequest, body: Frames, now: float, who: Peer) -> Frames | None:
        self.counters[f"requests_{request.__struct_config__.tag}"] += 1
        self.guard.check(who, request)
        match request:
            case Fetch() | Lease():
                reply = self._answer(peer, request, now, empty=request.wait_ms == 0)
                if reply is None:
                    self._let_wait(Waiter(peer, request, now + request.wait_ms / 1000, who))
                return reply
            case Tick():
                self._look_at(request.channel, request.partition)
                return None
            case Append():
                values = self._append(request, body)
            case Info():
                values = self.guard.visible(who, self.info())
            case Find():
                values = {"seq": self._partition(request.channel, request.partition).seq_at(request.t_us)}
            case _:
                values = self.guard.visible(who, self._ledger.note(peer, request, now))
        return pack_reply(request.id, values) if request.id else None

    def _let_wait(self, waiter: Waiter) -> None:
        if self._waiters.count_of(waiter.peer) >= _MOST_WAITING:
            raise RequestError(f"{_MOST_WAITING} requests of this client wait already: wait for their answers first")
        self._waiters.add(waiter)

    def _answer(self, peer: bytes, request: Fetch | Lease, now: float, *, empty: bool) -> Frames | None:
        """Return the records that a request is after; without any, nothing, or an empty answer when it is due."""
        if isinstance(request, Lease):
            found = list(serve_lease(self.catalogue, self.groups, request, now, self.counters))
            values: dict[str, Any] = {"lease_s": self.groups.lease_s}
            changed = False
            if found:
                self._ledger.speakers.speaks(peer, request.group, request.worker)
        else:
            self._look_beyond(request)
            found = list(serve_fetch(self.catalogue, request, self.counters))
            values = {"catalogue": self.catalogue.version}
            changed = request.catalogue not in (None, self.catalogue.version)
        if not found and not changed and not empty:
            return None
        values["slabs"] = [description for description, _ in found]
        return pack_reply(request.id, values, [data for _, data in found])

    def _look_beyond(self, request: Fetch) -> None:
        """Look for records where somebody is further than we are: he may have heard of them before we looked."""
        for cursor in request.cursors:
            reader = self.catalogue.get(cursor.channel, cursor.partition)
            if reader is not None and cursor.seq > reader.next_seq:
                self._look_at(cursor.channel, cursor.partition)

    def _append(self, request: Append, body: Frames) -> dict[str, Any]:
        if not body:
            raise RequestError("append needs the frames of the record behind the request")
        seq, epoch = self._appender.append(request.channel, request.partition, body)
        self._look_at(request.channel, request.partition)
        return {"seq": seq, "epoch": epoch}

    def _partition(self, channel: str, partition: str) -> Partition:
        self._look_at(channel, partition)
        reader = self.catalogue.get(channel, partition)
        if reader is None:
            # Of this channel alone: whoever asks may not see the others.
            known = ", ".join(f"{channel}/{name}" for name, _ in self.catalogue.of_channel(channel)) or "none yet"
            raise RequestError(f"there is no partition {channel}/{partition}; there are {known}")
        return reader

    def info(self) -> dict[str, Any]:
        """Return what there is: partitions, groups and readers, all seen at one moment."""
        self._look_around()
        seen = overview(self.catalogue, self.groups, self.readers)
        return {**seen, "counters": dict(self.counters), **self._facts()}
