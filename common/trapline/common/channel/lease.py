"""A worker of a group: records that nobody else has, until they are done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trapline.common.channel.interface import Channels
from trapline.common.channel.record import Record, unpack_slab
from trapline.common.relay.requests import Ack, Extend, Item, Lease, Leave, Nack


@dataclass
class GroupMember:
    """Leases, extends and acknowledges records as one worker of a group.

    Parameters
    ----------
    connection
        To the relay that serves the channels.
    group
        Name that all workers share.
    worker
        Name of this worker; the same after a reconnect.
    channels
        What the group shares, the most urgent first.
    """

    connection: Channels
    group: str
    worker: str
    channels: tuple[str, ...]
    lease_s: float = 0.3
    """how long a lease lasts: short until the relay has said it"""

    async def lease(
        self, max_records: int, wait_s: float, *, channels: Iterable[str] | None = None, headers_only: bool = False
    ) -> list[Record]:
        """Return records for this worker, of all its channels or of some; empty when none came within `wait_s`.

        With `headers_only` those of this host come without the other frames.
        """
        request = Lease(
            group=self.group,
            worker=self.worker,
            channels=list(self.channels if channels is None else channels),
            max_records=max_records,
            headers_only=headers_only,
            wait_ms=int(wait_s * 1000),
        )
        reply = await self.connection.lease(request)
        self.lease_s = reply.values["lease_s"]
        slabs = zip(reply.values["slabs"], reply.buffers, strict=True)
        return [record for description, data in slabs for record in unpack_slab(description, data)]

    def extend(self, held: Iterable[Record], handling: Iterable[Record] = ()) -> None:
        """Keep leases; say which records, and no others, are in a handler now: a death counts only against those."""
        request = Extend(group=self.group, worker=self.worker, items=_items(held), handling=_items(handling))
        self.connection.notify(request)

    async def begin(self, record: Record) -> None:
        """Say that a record, and no other, goes to the handler; return when the relay knows.

        If the handler takes this process down, that counts against this record: not said in time, against nobody.
        """
        items = _items([record])
        await self.connection.extend(Extend(group=self.group, worker=self.worker, items=items, handling=items))

    async def ack(self, done: Iterable[Record]) -> None:
        """Say that records are done."""
        await self.connection.ack(Ack(group=self.group, items=_items(done)))

    async def give_back(self, records: Iterable[Record], *, failed: bool) -> None:
        """Return records undone, for another worker; `failed` counts as an attempt."""
        items = _items(records)
        await self.connection.nack(Nack(group=self.group, worker=self.worker, items=items, failed=failed))

    async def leave(self) -> None:
        """Give back everything, also what is on its way here."""
        await self.connection.leave(Leave(group=self.group, worker=self.worker))


def _items(records: Iterable[Record]) -> list[Item]:
    return [Item(r.place.channel, r.place.partition, r.place.seq, r.place.epoch) for r in records]
