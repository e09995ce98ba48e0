"""The relays of several hosts as one: each partition belongs to the relay of its writer's host.

What is read, shared and acknowledged goes to the relay that has the partition; what is published, to that of this host.
A relay that does not answer takes nothing from the others: its partitions say nothing for a while, and are read on from
where they were when it is there again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar

import msgspec
import structlog

from trapline.common.channel.interface import (
    Connection,
    Notice,
    RelayUnreachableError,
    Reply,
)
from trapline.common.channel.peer import Key, Peer
from trapline.common.channel.waits import FetchWaits, LeaseWaits, fetch_now
from trapline.common.relay.requests import Ack, Cursor, Extend, Fetch, Item, Lease, Leave, Nack, Position, Read, Tick
from trapline.schemas.header import Place
from trapline.schemas.message import Buffer

P = TypeVar("P", Cursor, Item, Read)

_SEARCH_S = 1.0  # between two searches for partitions that no relay is known to have
_log = structlog.get_logger()


class MeshConnection:
    """Connections to the relay of this host and to those of others, as one; an async context manager.

    Parameters
    ----------
    home
        To the relay of this host: without it nothing works.
    others
        To the relays of other hosts.
    """

    def __init__(self, home: Connection, others: Sequence[Connection]) -> None:
        self._connections = (home, *others)
        self._home = Peer(home, self._note_change)
        self._peers = [self._home, *(Peer(other, self._note_change) for other in others)]
        self._version = 0
        self._owners: dict[Key, Peer] = {}
        self._clashes: set[Key] = set()
        self._change = asyncio.Event()
        self._searched_at = float("-inf")
        self._lease_s = 1.0
        self._fetches = FetchWaits()
        self._leases = LeaseWaits(self._home)

    @property
    def address(self) -> str:
        """Where the relays are, that of this host first."""
        return ", ".join(peer.address for peer in self._peers)

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        async with contextlib.AsyncExitStack() as stack:
            for connection in self._connections:
                await stack.enter_async_context(connection)
            self._stack = stack.pop_all()
        await asyncio.gather(*(peer.look() for peer in self._peers))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._fetches.close()
        await self._leases.close()
        for peer in self._peers:
            await peer.close()
        await self._stack.aclose()

    async def info(self) -> dict[str, Any]:
        """See `Channels.info`; of a relay that is away what was known last, and ``relays`` tells of each."""
        await asyncio.gather(*(peer.look() for peer in self._peers if peer.trouble is None or peer is self._home))
        if self._home.trouble is not None:
            raise RelayUnreachableError(self._home.trouble)
        lists = {name: list(self._rows(name)) for name in ("partitions", "groups", "readers")}
        # What is neither of a partition nor of the list of them is of a host: its disk, its counters.
        relays = [
            {
                **{key: value for key, value in peer.last.items() if key not in (*lists, "catalogue")},
                "address": peer.address,
                "trouble": peer.trouble,
            }
            for peer in self._peers
        ]
        return {"catalogue": self._version, **lists, "relays": relays}

    async def fetch(self, request: Fetch) -> Reply:
        """See `Channels.fetch`; ``complete`` is whether all relays were asked since that was last said.

        The relays are waited for together, and the first that has something ends the wait: what the others bring is in
        the next answers.
        """
        found, missing = await self._found(request.cursors)
        slabs, buffers = [], []
        if request.wait_ms:
            # Also those without any of the partitions: they tell when they have new ones.
            asked = {peer: found.get(peer, []) for peer in self._peers if peer.trouble is None}
            news = request.catalogue not in (None, self._version)
            answers = await self._fetches.wait(request, asked, self._change, news=news)
        else:
            answers = await fetch_now(request, {p: cursors for p, cursors in found.items() if p.trouble is None})
        for reply in answers.replies:
            slabs += reply.values["slabs"]
            buffers += reply.buffers
        complete = answers.complete and not missing and all(peer.trouble is None for peer in self._peers)
        for peer in answers.changed:
            await peer.look()
        values = {"catalogue": self._version, "slabs": slabs, "complete": complete}
        return Reply(values, buffers)

    async def find(self, channel: str, partition: str, t_us: int) -> int:
        """See `Channels.find`."""
        owner = self._owners.get((channel, partition), self._home)
        return await owner.connection.find(channel, partition, t_us)

    async def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Place:
        """Append at the relay of this host; see `Channels.append`."""
        return await self._home.connection.append(channel, partition, frames)

    async def lease(self, request: Lease) -> Reply:
        """See `Channels.lease`: records of any relay, those of one at a time."""
        found = await self._leases.wait(request, [peer for peer in self._peers if peer.trouble is None])
        if found is None:
            return Reply({"slabs": [], "lease_s": self._lease_s}, [])
        peer, reply = found
        self._lease_s = min(self._lease_s, reply.values["lease_s"])
        if any((s["channel"], s["partition"]) not in self._owners for s in reply.values["slabs"]):
            await peer.look()
        return reply

    async def extend(self, request: Extend) -> int:
        """See `Channels.extend`."""
        parts = list(self._extensions(request))
        for peer, part in parts:
            if not part.items:
                peer.connection.notify(part)
        asked = (peer.connection.extend(part) for peer, part in parts if part.items)
        return sum(await asyncio.gather(*asked))

    async def ack(self, request: Ack) -> None:
        """See `Channels.ack`; when a relay is away, those at the others are done."""
        await self._at_owners(request.items, lambda peer, items: peer.ack(Ack(group=request.group, items=items)))

    async def nack(self, request: Nack) -> None:
        """See `Channels.nack`."""
        await self._at_owners(
            request.items,
            lambda peer, items: peer.nack(msgspec.structs.replace(request, items=items)),
        )

    async def leave(self, request: Leave) -> None:
        """See `Channels.leave`; at a relay that is away the leases end by themselves."""
        self._leases.forget(request.group, request.worker)
        peers = [peer.connection for peer in self._peers if peer.trouble is None]
        leaving = (peer.leave(Leave(group=request.group, worker=request.worker)) for peer in peers)
        await asyncio.gather(*leaving, return_exceptions=True)

    async def position(self, request: Position) -> None:
        """See `Channels.position`."""
        await self._at_owners(
            request.reads, lambda peer, reads: peer.position(Position(reader=request.reader, reads=reads))
        )

    async def positions(self, reader: str) -> list[Read]:
        """See `Channels.positions`; of all relays, or none."""
        found = await asyncio.gather(*(peer.connection.positions(reader) for peer in self._peers))
        return [read for reads in found for read in reads]

    async def forget(self, name: str) -> list[dict[str, str]]:
        """See `Channels.forget`; at all relays, or an error says which did not."""
        found = await asyncio.gather(*(peer.connection.forget(name) for peer in self._peers))
        return [row for rows in found for row in rows]

    def notify(self, request: Notice) -> None:
        """See `Channels.notify`."""
        match request:
            case Tick():
                self._home.connection.notify(request)
            case Position():
                for peer, reads in self._split(request.reads)[0].items():
                    peer.connection.notify(Position(reader=request.reader, reads=reads))
            case Extend():
                for peer, part in self._extensions(request):
                    peer.connection.notify(part)

    def _extensions(self, request: Extend) -> Iterable[tuple[Peer, Extend]]:
        """Yield what each relay must hear: also that of its records none is being handled, and what is on its way."""
        group, worker = request.group, request.worker
        items, handling = self._split(request.items)[0], self._split(request.handling)[0]
        for peer in self._peers:
            held = items.get(peer, []) + self._leases.on_the_way(group, worker, peer)
            yield peer, Extend(group=group, worker=worker, items=held, handling=handling.get(peer, []))

    async def _at_owners(self, entries: Iterable[P], call: Any) -> None:
        """Call something at the relay of each entry; raise the first error once all were tried."""
        found, missing = await self._found(entries)
        parts = found.items()
        results = await asyncio.gather(*(call(peer.connection, part) for peer, part in parts), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException):
                raise error
        if missing:
            unknown = ", ".join(sorted({f"{entry.channel}/{entry.partition}" for entry in missing}))
            raise RelayUnreachableError(f"no relay that answers has {unknown}; there are {self.address}")

    async def _found(self, entries: Iterable[P]) -> tuple[dict[Peer, list[P]], list[P]]:
        """Return the entries as `_split` does; for unknown partitions the relays are asked now and then."""
        entries = list(entries)
        parts, missing = self._split(entries)
        now = asyncio.get_running_loop().time()
        if missing and now - self._searched_at > _SEARCH_S:
            self._searched_at = now
            await asyncio.gather(*(peer.look() for peer in self._peers if peer.trouble is None))
            parts, missing = self._split(entries)
        return parts, missing

    def _split(self, entries: Iterable[P]) -> tuple[dict[Peer, list[P]], list[P]]:
        """Return the entries by the relay of their partition, and those whose relay is not known."""
        parts: dict[Peer, list[P]] = {}
        missing = []
        for entry in entries:
            owner = self._owners.get((entry.channel, entry.partition))
            if owner is None:
                missing.append(entry)
            else:
                parts.setdefault(owner, []).append(entry)
        return parts, missing

    def _rows(self, name: str) -> Iterable[dict[str, Any]]:
        for peer in self._peers:
            for row in peer.last.get(name, ()):
                if self._owners.get((row["channel"], row["partition"])) is peer:
                    yield {**row, "relay": peer.address}

    def _note_change(self) -> None:
        """Take notice that a relay has other partitions, or is there again."""
        self._version += 1
        self._owners = {}
        for peer in self._peers:
            for key in peer.partitions():
                owner = self._owners.setdefault(key, peer)
                if owner is not peer and key not in self._clashes:
                    self._clashes.add(key)
                    _log.error(
                        "two relays have a partition of the same name, and that of the second is not read: give each "
                        "host a [mesh] host of its own, and leave its own relay out of its [mesh] relays",
                        partition="/".join(key), relays=[owner.address, peer.address],
                    )  # fmt: skip
        # Those who wait for the change that was have the old event.
        change, self._change = self._change, asyncio.Event()
        change.set()
