"""Channels in the memory of one process: for tests of what reads and writes channels, without files and sockets.

The rules are the relay's own (`RelayCore`); only where the records are, and how requests travel, is different.
"""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from trapline.common.channel.interface import GRACE_S, Notice, RelayRefusedError, Reply, RequestCalls
from trapline.common.journal import Slab, now_us
from trapline.common.journal.epochs import Epoch, Epochs
from trapline.common.relay.core import Answer, RelayCore
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.partitions import Appended, Key
from trapline.common.relay.publishing import record_id
from trapline.common.relay.requests import Request, pack_request
from trapline.schemas.message import Buffer
from trapline.schemas.packing import unpack_map


class _Kept(NamedTuple):
    t_us: int
    frames: list[bytes]
    size: int


class MemoryPartition:
    """Records of one partition; the oldest go when they are more than a bound."""

    epoch = 0

    def __init__(self, limit_bytes: int, clock: Callable[[], int]) -> None:
        self._limit_bytes, self._clock = limit_bytes, clock
        self._records: list[_Kept] = []
        self._seq_of: dict[bytes, int] = {}
        self.first_seq = 0
        self.size_bytes = 0

    @property
    def next_seq(self) -> int:
        """Seq that the next record will get."""
        return self.first_seq + len(self._records)

    @property
    def data_bytes(self) -> int:
        """Bytes of its records."""
        return self.size_bytes

    def append(self, frames: Sequence[Buffer]) -> int:
        """Append a record unless its id is known; return its seq."""
        key = record_id(frames)
        if key not in self._seq_of:
            self._seq_of[key] = self.next_seq
            copies = [bytes(frame) for frame in frames]
            last_us = self._records[-1].t_us if self._records else 0
            self._records.append(_Kept(max(self._clock(), last_us), copies, sum(map(len, copies))))
            self.size_bytes += self._records[-1].size
            while self.size_bytes > self._limit_bytes and len(self._records) > 1:
                self.size_bytes -= self._records.pop(0).size
                self.first_seq += 1
        return self._seq_of[key]

    def epochs(self) -> Epochs:
        """Return the one epoch that there is: no writer of memory ends and comes back."""
        return Epochs([Epoch(0, 0)], open=True)

    def readable_from(self, seq: int) -> int:
        """Return `seq`: memory is not damaged."""
        return seq

    def slab(self, seq: int, *, max_bytes: int, max_records: int) -> Slab:
        """Return records from `seq` on, as one buffer."""
        if not self.first_seq <= seq <= self.next_seq:
            raise IndexError(f"this partition holds {self.first_seq} to {self.next_seq - 1}, not {seq}")
        parts: list[bytes] = []
        rows: list[list[int]] = []
        position = 0
        for kept in self._records[seq - self.first_seq :][:max_records]:
            if rows and position + kept.size > max_bytes:
                break
            row = [seq + len(rows), self.epoch, kept.t_us]
            for frame in kept.frames:
                row += (position, len(frame))
                position += len(frame)
            parts += kept.frames
            rows.append(row)
        return Slab(memoryview(b"".join(parts)), rows)

    def seq_at(self, t_us: int) -> int:
        """Return the seq of the first record that was appended at or after a time."""
        return self.first_seq + bisect_left(self._records, t_us, key=lambda kept: kept.t_us)

    def time_of(self, seq: int) -> int:
        """Return when a record was appended, in microseconds."""
        if not self.first_seq <= seq < self.next_seq:
            raise IndexError(f"this partition holds {self.first_seq} to {self.next_seq - 1}, not {seq}")
        return self._records[seq - self.first_seq].t_us


class _Partitions:
    """The partitions of a memory, and what appends to them."""

    def __init__(self, limit_bytes: int, clock: Callable[[], int]) -> None:
        self.version = 0
        self._limit_bytes, self._clock = limit_bytes, clock
        self._partitions: dict[Key, MemoryPartition] = {}
        self._new = False

    def append(self, channel: str, partition: str, frames: Sequence[Buffer]) -> Appended:
        record_id(frames)
        key = (channel, partition)
        if key not in self._partitions:
            self._partitions[key] = MemoryPartition(self._limit_bytes, self._clock)
            self._new = True
        return self._partitions[key].append(frames), MemoryPartition.epoch

    def discover(self) -> bool:
        new, self._new = self._new, False
        self.version += new
        return new

    def refresh(self) -> set[Key]:
        return set()

    def refresh_one(self, key: Key) -> bool:
        self.discover()
        return key in self._partitions

    def get(self, channel: str, partition: str) -> MemoryPartition | None:
        return self._partitions.get((channel, partition))

    def of_channel(self, channel: str) -> list[tuple[str, MemoryPartition]]:
        return sorted((k[1], p) for k, p in self._partitions.items() if k[0] == channel)

    def __iter__(self) -> Iterator[tuple[Key, MemoryPartition]]:
        return iter(sorted(self._partitions.items(), key=lambda item: item[0]))

    def close(self) -> None:
        """Do nothing: memory needs no closing."""


class MemoryChannels:
    """Channels that live as long as this object. Clients join with `connect`.

    Parameters
    ----------
    lease_s
        How long a lease lasts without being extended.
    limit_bytes
        What a partition may hold; then its oldest records go, and their readers get a gap.
    clock
        Time of an append, in microseconds.
    """

    def __init__(
        self, *, lease_s: float = 3.0, limit_bytes: int = 256 << 20, clock: Callable[[], int] = now_us
    ) -> None:
        partitions = _Partitions(limit_bytes, clock)
        self._core = RelayCore(partitions, partitions, RelayMemory(Path(":memory:")), lease_s=lease_s)
        self._clients: dict[bytes, MemoryConnection] = {}
        self._names = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    def connect(self) -> MemoryConnection:
        """Return a client, used as an async context manager."""
        return MemoryConnection(self, b"%d" % next(self._names))

    def join(self, client: MemoryConnection) -> None:
        """Deliver answers to a client from now on."""
        self._clients[client.name] = client

    def part(self, client: MemoryConnection) -> None:
        """Take a client's leases back, and forget it."""
        self._clients.pop(client.name, None)
        self._core.forget_peer(client.name)
        self._advance()
        if not self._clients and self._timer:
            self._timer.cancel()

    def serve(self, client: MemoryConnection, frames: list[Any]) -> None:
        """Take a request; its answer is delivered now or when there is one."""
        self._deliver(self._core.handle(client.name, frames, asyncio.get_running_loop().time()))
        self._advance()

    def _advance(self) -> None:
        loop = asyncio.get_running_loop()
        self._deliver(self._core.advance(loop.time()))
        if self._timer:
            self._timer.cancel()
        deadline = self._core.next_deadline()
        self._timer = None if deadline is None else loop.call_at(deadline, self._advance)

    def _deliver(self, answers: Iterator[Answer]) -> None:
        for peer, (head, *buffers) in answers:
            if peer in self._clients:
                self._clients[peer].take(Reply(unpack_map(head), [memoryview(b) for b in buffers]))


class MemoryConnection(RequestCalls):
    """One client of channels in memory; made by `MemoryChannels.connect`."""

    def __init__(self, channels: MemoryChannels, name: bytes) -> None:
        self.name = name
        self.address = f"memory client {name.decode()}"
        self._channels = channels
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    async def __aenter__(self) -> Self:
        self._channels.join(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._channels.part(self)

    async def request(
        self,
        request: Request,
        body: Sequence[Buffer] = (),
        *,
        timeout_s: float = GRACE_S,  # noqa: ARG002  memory answers at once, or when the request has waited long enough
    ) -> Reply:
        """Serve a request; see `RequestCalls.request`."""
        request.id = next(self._ids)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = future
        try:
            self._channels.serve(self, [pack_request(request), *body])
            reply = await future
        finally:
            del self._waiting[request.id]
        if not reply.values["ok"]:
            raise RelayRefusedError(str(reply.values["error"]))
        return reply

    def notify(self, request: Notice) -> None:
        """See `Channels.notify`; nothing is lost here."""
        self._channels.serve(self, [pack_request(request)])

    def take(self, reply: Reply) -> None:
        """Take an answer."""
        future = self._waiting.get(reply.values["id"])
        if future and not future.done():
            future.set_result(reply)
