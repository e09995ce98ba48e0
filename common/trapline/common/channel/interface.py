"""What every backend of channels can do: the calls that readers, workers, services and the client are made of.

Backends: `RelayConnection` (the journals of a host, through its relay), `MemoryConnection` (this process), and
`MeshConnection` (the relays of several hosts as one). ``tests/contract`` holds each of them to the same behaviour; one
more joins by adding itself there.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from trapline.common.relay.requests import (
    Ack,
    Append,
    Extend,
    Fetch,
    Find,
    Forget,
    Info,
    Lease,
    Leave,
    Nack,
    Position,
    Positions,
    Read,
    Request,
    Tick,
)
from trapline.schemas.header import Place
from trapline.schemas.message import Buffer

GRACE_S = 2.0  # on top of the time that a request may wait at the backend
APPEND_S = 10.0  # a record may be large, and is synced before the answer


class RelayUnreachableError(TimeoutError):
    """The relay did not answer in time. The text names its address and what to do."""


class RelayRefusedError(RuntimeError):
    """The relay answered that it will not. The text is the relay's own."""


class Reply(NamedTuple):
    """An answer: its header and the buffers that the header describes."""

    values: dict[str, Any]
    buffers: list[memoryview]


Notice = Extend | Position | Tick
"""what may be said without waiting for an answer"""


class Channels(Protocol):
    """Channels of records, read, shared and written through one backend.

    A partition's records have a seq that counts up without holes, and an epoch. Every call but `notify` raises
    `RelayUnreachableError` at its deadline, after which it can be made again, and `RelayRefusedError` with a reason.
    """

    @property
    def address(self) -> str:
        """Where the backend is, for people."""
        ...

    async def info(self) -> dict[str, Any]:
        """Return ``catalogue`` (grows when the list of partitions changes), ``partitions``, ``groups``, ``readers``."""
        ...

    async def fetch(self, request: Fetch) -> Reply:
        """Return what stands behind some cursors: ``slabs`` for `unpack_slab` and `unpack_gaps`, and ``catalogue``.

        What is gone or damaged is named, never left out in silence. Without records this waits for ``wait_ms``, or
        until the catalogue is another than the one that the request names. ``complete`` is false when some cursor was
        not looked at.
        """
        ...

    async def find(self, channel: str, partition: str, t_us: int) -> int:
        """Return the seq of the first record appended at or after a time (us since 1970-01-01 UTC)."""
        ...

    async def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Place:
        """Append a record and return its place once it is durable; one with an id that is known is there already."""
        ...

    async def lease(self, request: Lease) -> Reply:
        """Return ``slabs`` of records that no other worker of the group has, and ``lease_s``, how long it has them."""
        ...

    async def extend(self, request: Extend) -> int:
        """Keep leases, say what is being handled, and return how many of the records the worker still has."""
        ...

    async def ack(self, request: Ack) -> None:
        """Note that records are done: no worker of the group gets them again, also after a restart."""
        ...

    async def nack(self, request: Nack) -> None:
        """Give records back to the group."""
        ...

    async def leave(self, request: Leave) -> None:
        """Give back everything that a worker has."""
        ...

    async def position(self, request: Position) -> None:
        """Keep how far a named reader is: what it still needs is not given up."""
        ...

    async def positions(self, reader: str) -> list[Read]:
        """Return how far a named reader said that it is."""
        ...

    async def forget(self, name: str) -> list[dict[str, str]]:
        """Forget a group or a named reader, and return ``kind``, ``channel`` and ``partition`` of what it had.

        Nothing is kept for it any more. `RelayRefusedError` when workers of the group are at work.
        """
        ...

    def notify(self, request: Notice) -> None:
        """Say something that only saves waiting, or is said again: it may be lost."""
        ...


class Connection(Channels, Protocol):
    """Channels that are opened and closed as an async context manager."""

    async def __aenter__(self) -> Self:
        """Open."""
        ...

    async def __aexit__(self, *exception: object) -> None:
        """Close."""
        ...


class RequestCalls(abc.ABC):
    """The calls of `Channels` for backends that take the requests of a relay, whatever way these travel."""

    @abc.abstractmethod
    async def request(self, request: Request, body: Sequence[Buffer] = (), *, timeout_s: float = GRACE_S) -> Reply:
        """Send a request and return its answer; errors as those of `Channels`."""

    async def info(self) -> dict[str, Any]:
        """See `Channels.info`; ``counters`` are those of the relay."""
        return (await self.request(Info())).values

    async def fetch(self, request: Fetch) -> Reply:
        """See `Channels.fetch`."""
        return await self.request(request)

    async def find(self, channel: str, partition: str, t_us: int) -> int:
        """See `Channels.find`."""
        reply = await self.request(Find(channel=channel, partition=partition, t_us=t_us))
        return int(reply.values["seq"])

    async def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Place:
        """See `Channels.append`."""
        request = Append(channel=channel, partition=partition)
        values = (await self.request(request, frames, timeout_s=APPEND_S)).values
        return Place(channel, partition, values["epoch"], values["seq"])

    async def lease(self, request: Lease) -> Reply:
        """See `Channels.lease`."""
        return await self.request(request)

    async def extend(self, request: Extend) -> int:
        """See `Channels.extend`."""
        return int((await self.request(request)).values["kept"])

    async def ack(self, request: Ack) -> None:
        """See `Channels.ack`."""
        await self.request(request)

    async def nack(self, request: Nack) -> None:
        """See `Channels.nack`."""
        await self.request(request)

    async def leave(self, request: Leave) -> None:
        """See `Channels.leave`."""
        await self.request(request)

    async def position(self, request: Position) -> None:
        """See `Channels.position`."""
        await self.request(request)

    async def positions(self, reader: str) -> list[Read]:
        """See `Channels.positions`."""
        reply = await self.request(Positions(reader=reader))
        return msgspec.convert(reply.values["positions"], list[Read])

    async def forget(self, name: str) -> list[dict[str, str]]:
        """See `Channels.forget`."""
        return list((await self.request(Forget(name=name))).values["forgotten"])
