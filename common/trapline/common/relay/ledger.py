"""What workers and readers say of records: that they are done, kept, given back, or read up to here."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from trapline.common.relay.groups import Groups
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.partitions import Partitions
from trapline.common.relay.presence import Speakers
from trapline.common.relay.readers import Readers
from trapline.common.relay.requests import (
    Ack,
    AnyRequest,
    Extend,
    Forget,
    Item,
    Lease,
    Leave,
    Nack,
    Position,
    Positions,
    RequestError,
)
from trapline.common.relay.standing import share_of, stands
from trapline.common.relay.waiting import Waiters


class Ledger:
    """Groups and named readers of a relay, and what is told about them.

    Parameters
    ----------
    partitions
        Where the records are.
    memory
        Where acknowledgements and positions are kept.
    waiters
        Requests that wait; those of a worker that leaves go.
    counters
        Of the relay.
    lease_s
        How long a lease lasts without being extended.

    Attributes
    ----------
    news
        Channels of which a record came back, and may be given to another worker.
    speakers
        For which workers each peer speaks.
    """

    def __init__(
        self, partitions: Partitions, memory: RelayMemory, waiters: Waiters, counters: Counter[str], *, lease_s: float
    ) -> None:
        self.groups, self.readers = Groups(lease_s), Readers()
        self.speakers = Speakers()
        self.news: set[str] = set()
        self._partitions, self._memory, self._waiters, self._counters = partitions, memory, waiters, counters
        memory.load(self.groups, self.readers)

    def note(self, peer: bytes, request: AnyRequest, now: float) -> dict[str, Any]:
        """Do what a request says, and return what to answer."""
        match request:
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
            case Forget():
                return {"forgotten": self._forget(request.name)}
            case _:
                raise TypeError(f"{type(request).__name__} is not about groups and readers")
        return {}

    def expire(self, now: float) -> int:
        """Give back all leases that are past their deadline, and return how many records that were."""
        expired = self.groups.expire(now)
        self.news.update(expired)
        return len(expired)

    def forget_peer(self, peer: bytes) -> None:
        """Give back the leases of the workers for which a peer spoke that has gone."""
        for group, worker in self.speakers.forget(peer):
            given_back = self.groups.release_worker(group, worker, failed=True)
            self._counters["leases_of_vanished"] += len(given_back)
            self.news.update(given_back)

    def remember(self) -> None:
        """Store what groups and readers said; what a full disk does not take is tried again."""
        shares, positions = list(self.groups.take_dirty()), list(self.readers.take_dirty())
        try:
            self._memory.save(shares, positions)
        except sqlite3.Error:
            self._counters["memory_failures"] += 1
            self.readers.mark_dirty((name, channel, partition) for name, channel, partition, _, _ in positions)
            for _, share in shares:
                share.dirty = True

    def _leave(self, group: str, worker: str) -> None:
        self._waiters.remove_if(
            lambda w: isinstance(w.request, Lease) and (w.request.group, w.request.worker) == (group, worker)
        )
        self.speakers.left(group, worker)
        self.news.update(self.groups.release_worker(group, worker, failed=False))

    def _finish(self, request: Ack | Nack) -> None:
        """Note what a worker says of its records. What does not exist cannot be done.

        Nor does a worker that had vanished bring a forgotten group back, which would pin the journal for nobody.
        """
        forgotten = self.groups.is_forgotten(request.group)
        for item in request.items:
            reader = self._partitions.get(item.channel, item.partition)
            if forgotten or reader is None or not stands(reader, item):
                self._counters["items_unknown"] += 1
                continue
            share = share_of(self.groups, request.group, item.channel, item.partition, reader)
            if isinstance(request, Ack):
                share.finish(item.seq)
            elif request.again or share.holds(request.worker, item.seq):
                share.give_back(item.seq, failed=request.failed, again=request.again)
                self.news.add(item.channel)

    def _extend(self, peer: bytes, request: Extend, now: float) -> int:
        group, worker = request.group, request.worker
        items, handling = self._standing(request.items), self._standing(request.handling)
        kept = [self.groups.extend((group, i.channel, i.partition), i.seq, worker, now) for i in items]
        self.groups.note_handling(group, worker, {(i.channel, i.partition, i.seq) for i in handling})
        if any(kept):
            self.speakers.speaks(peer, group, worker)
        return sum(kept)

    def _standing(self, items: list[Item]) -> list[Item]:
        """Return those of some leased records that neither a power cut nor retention took."""
        get = self._partitions.get
        return [
            i
            for i in items
            if (reader := get(i.channel, i.partition)) and reader.first_seq <= i.seq and stands(reader, i)
        ]

    def _forget(self, name: str) -> list[dict[str, str]]:
        """Forget a group or a named reader, which then needs nothing any more; return what was forgotten of it."""
        if self.groups.is_leasing(name) or self._waiters.any_lease_of(name) or self.speakers.any_of(name):
            raise RequestError(
                f"workers of {name} are at work: stop them first, else everything is given to them again"
            )
        try:
            self._memory.forget(name)
        except sqlite3.Error as error:
            raise RequestError(f"{name} cannot be forgotten now: {error}") from None
        forgotten = {"group": self.groups.forget(name), "reader": self.readers.forget(name)}
        return [{"kind": kind, "channel": c, "partition": p} for kind, keys in forgotten.items() for c, p in keys]
