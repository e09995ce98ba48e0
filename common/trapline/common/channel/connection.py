"""A connection to a relay: requests with deadlines, over a socket that reconnects by itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Self

import zmq
import zmq.asyncio

from trapline.common.channel.interface import (
    GRACE_S,
    Notice,
    RelayRefusedError,
    RelayUnreachableError,
    Reply,
    RequestCalls,
)
from trapline.common.relay.requests import Request, pack_request
from trapline.common.security.handshake import HandshakeWatch
from trapline.common.security.pair import ClientKeys
from trapline.schemas.columns import SchemaError
from trapline.schemas.message import Buffer
from trapline.schemas.packing import unpack_map

_TICK_BACKLOG = 100


class RelayConnection(RequestCalls):
    """One DEALER socket to one relay, used as an async context manager.

    Parameters
    ----------
    address
        ``tcp://host:port`` or ``ipc:///path``.
    keys
        For a relay that wants keys: this client's own, and the relay's.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._keys = keys
        self._handshakes: HandshakeWatch | None = None
        self.bytes_received = 0
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._receiver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.SNDHWM, 10_000)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6000)
        if self._keys:
            self._keys.put_on(self._socket)
        if self.address.startswith("tcp:"):
            self._handshakes = HandshakeWatch(self._socket, self.address, self._keys)
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError as error:
            if self._handshakes:
                await self._handshakes.close()
            self._context.destroy(linger=0)
            raise ValueError(f"{self.address!r} is not an address such as tcp://127.0.0.1:7400: {error}") from None
        self._receiver = asyncio.create_task(self._receive(), name=f"receive {self.address}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._receiver:
            self._receiver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._receiver
        if self._handshakes:
            await self._handshakes.close()
        self._socket.close()
        self._context.term()

    async def request(self, request: Request, body: Sequence[Buffer] = (), *, timeout_s: float = GRACE_S) -> Reply:
        """Send a request and return its answer.

        Raises
        ------
        RelayUnreachableError
            When nothing came within `timeout_s` and the time that the request allows the relay to wait.
        RelayRefusedError
            When the relay refuses, with its reason.
        """
        request.id = next(self._ids)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = future
        wait_s = getattr(request, "wait_ms", 0) / 1000
        try:
            async with asyncio.timeout(timeout_s + wait_s):
                await self._socket.send_multipart([pack_request(request), *body], copy=not body)
                reply = await future
        except TimeoutError:
            raise RelayUnreachableError(
                f"no answer from the relay at {self.address} within {timeout_s + wait_s:g} s; {self._trouble()}"
            ) from None
        finally:
            del self._waiting[request.id]
        if not reply.values.get("ok"):
            raise RelayRefusedError(str(reply.values.get("error", "refused without a reason")))
        return reply

    def _trouble(self) -> str:
        if self._handshakes and self._handshakes.trouble:
            return self._handshakes.trouble
        return "is it running? `trapline up` starts a whole mesh, `trapline relay` a relay alone"

    def notify(self, request: Notice) -> None:
        """Send a request that nobody answers. It is dropped when the relay is away: it only saves waiting."""
        # Never past the asyncio socket: whoever sends on the bare one takes the news that an answer has come, which
        # is told once.
        sending = asyncio.ensure_future(self._socket.send(pack_request(request), zmq.NOBLOCK))
        if not sending.done():
            sending.cancel()
        elif (error := sending.exception()) and not isinstance(error, zmq.Again):
            raise error

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            try:
                values = unpack_map(frames[0].bytes)
            except SchemaError:
                # Whoever answers like this is no relay; whoever asked will hear of it at the deadline.
                continue
            future = self._waiting.get(values.get("id", 0))
            if future and not future.done():
                buffers = [frame.buffer for frame in frames[1:]]
                self.bytes_received += sum(map(len, buffers))
                future.set_result(Reply(values, buffers))
