"""The relay without its sockets: requests in, answers out, time given from outside."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from trapline.common.relay.groups import Groups
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.partitions import Appender, Partition, Partitions
from trapline.common.relay.presence import Speakers
from trapline.common.relay.readers import Readers
from trapline.common.relay.requests import (
    Ack,
    AnyRequest,
    Append,
    Extend,
    Fetch,
    Find,
    Info,
    Item,
    Lease,
    Leave,
    Nack,
    Position,
    Positions,
    RequestError,
    Tick,
    pack_error,
    pack_reply,
    parse_request,
    request_id,
)
from trapline.common.relay.serving import overview, serve_fetch, serve_lease
from trapline.common.relay.standing import share_of, stands
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
        self.groups, self.readers = Groups(lease_s), Readers()
        self.counters: Counter[str] = Counter()
        self.guard = Guard(trusted, self.counters)
        self._memory = memory
        self._facts = facts
        self._memory.load(self.groups, self.readers)
        self._appender = appender
        self._waiters = Waiters()
        self._speakers = Speakers()
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
        expired = self.groups.expire(now)
        self.counters["leases_expired"] += len(expired)
        self._news.update(expired)
        if self._news or self._news_for_all:
            concerned = self._waiters.concerned(None if self._news_for_all else self._news)
            self._news, self._news_for_all = set(), False
            yield from self._answer_waiting(concerned, now, due=False)
        yield from self._answer_waiting(self._waiters.due(now), now, due=True)
        self._remember()

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do even if nothing happens."""
        times = (self._waiters.next_deadline(), self.groups.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def forget_peer(self, peer: bytes) -> None:
        """Give up the requests of a peer that has gone, and give back the leases of the workers it spoke for."""
        self._waiters.remove_of_peer(peer)
        for group, worker in self._speakers.forget(peer):
            given_back = self.groups.release_worker(group, worker, failed=True)
            self.counters["leases_of_vanished"] += len(given_back)
            self._news.update(given_back)

    def note_stall(self, seconds: float) -> None:
        """Give leases the time in which this process could not be told that they are extended."""
        self.counters["stalls"] += 1
        self.groups.postpone(seconds)

    def close(self) -> None:
        """Write what is not written, and let go of the files."""
        self._remember()
        self._appender.close()
        self._memory.close()

    @property
    def n_waiting(self) -> int:
        """Number of requests that wait for records."""
        return len(self._waiters)

    def _remember(self) -> None:
        """Store what groups and readers said; what a full disk does not take is tried again."""
        shares, positions = list(self.groups.take_dirty()), list(self.readers.take_dirty())
        try:
            self._memory.save(shares, positions)
        except sqlite3.Error:
            self.counters["memory_failures"] += 1
            self.readers.mark_dirty((name, channel, partition) for name, channel, partition, _, _ in positions)
            for _, share in shares:
                share.dirty = True

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
        except (IndexError, ValueError) as error:
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
            case _:
                values = self.guard.visible(who, self._note(peer, request, now))
        return pack_reply(request.id, values) if request.id else None

    def _let_wait(self, waiter: Waiter) -> None:
        if self._waiters.count_of(waiter.peer) >= _MOST_WAITING:
            raise RequestError(f"{_MOST_WAITING} requests of this client wait already: wait for their answers first")
        self._waiters.add(waiter)

    def _note(self, peer: bytes, request: AnyRequest, now: float) -> dict[str, Any]:
        """Do what needs no records and no waiting, and return what to answer."""
        match request:
            case Info():
                return self.info()
            case Find():
                return {"seq": self._partition(request.channel, request.partition).seq_at(request.t_us)}
            case Position():
                for r in request.reads:
                    self.readers.report(request.reader, r.channel, r.partition, r.seq, r.safe)
            case Positions():
                found = self.readers.of(request.reader)
                return {"positions": [{"channel": c, "partition": p, **at._asdict()} for c, p, at in found]}
            case Extend():
                return {"kept": self._extend(peer, request, now)}
            case Leave():
                self._leave(request.group, request.worker)
            case Ack() | Nack():
                self._finish(request)
        return {}

    def _leave(self, group: str, worker: str) -> None:
        self._waiters.remove_if(
            lambda w: isinstance(w.request, Lease) and (w.request.group, w.request.worker) == (group, worker)
        )
        self._news.update(self.groups.release_worker(group, worker, failed=False))

    def _finish(self, request: Ack | Nack) -> None:
        """Note what a worker says of its records. What does not exist cannot be done."""
        for item in request.items:
            reader = self.catalogue.get(item.channel, item.partition)
            if reader is None or not stands(reader, item):
                self.counters["items_unknown"] += 1
                continue
            share = share_of(self.groups, request.group, item.channel, item.partition, reader)
            if isinstance(request, Ack):
                share.finish(item.seq)
            elif request.again or share.holds(request.worker, item.seq):
                share.give_back(item.seq, failed=request.failed, again=request.again)
                self._news.add(item.channel)

    def _answer(self, peer: bytes, request: Fetch | Lease, now: float, *, empty: bool) -> Frames | None:
        """Return the records that a request is after; without any, nothing, or an empty answer when it is due."""
        if isinstance(request, Lease):
            found = list(serve_lease(self.catalogue, self.groups, request, now, self.counters))
            values: dict[str, Any] = {"lease_s": self.groups.lease_s}
            changed = False
            if found:
                self._speakers.speaks(peer, request.group, request.worker)
        else:
            found = list(serve_fetch(self.catalogue, request, self.counters))
            values = {"catalogue": self.catalogue.version}
            changed = request.catalogue not in (None, self.catalogue.version)
        if not found and not changed and not empty:
            return None
        values["slabs"] = [description for description, _ in found]
        return pack_reply(request.id, values, [data for _, data in found])

    def _extend(self, peer: bytes, request: Extend, now: float) -> int:
        group, worker = request.group, request.worker
        items, handling = self._standing(request.items), self._standing(request.handling)
        kept = [self.groups.extend((group, i.channel, i.partition), i.seq, worker, now) for i in items]
        self.groups.note_handling(group, worker, {(i.channel, i.partition, i.seq) for i in handling})
        if any(kept):
            self._speakers.speaks(peer, group, worker)
        return sum(kept)

    def _standing(self, items: list[Item]) -> list[Item]:
        """Return those of some leased records that a power cut did not take."""
        get = self.catalogue.get
        return [i for i in items if (reader := get(i.channel, i.partition)) and stands(reader, i)]

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
