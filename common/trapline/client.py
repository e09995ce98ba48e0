"""What plug-ins and notebooks import: join the mesh, read its channels, publish to new ones.

>>> from trapline.client import connect
>>> with connect("tcp://relay-host:7400") as mesh:           # doctest: +SKIP
...     for event in mesh.subscribe("transients", start="latest"):
...         print(event.time, event.ra_deg, event.dec_deg, event.kind, event.significance)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from trapline.common.channel import (
    ChannelReader,
    Gap,
    Record,
    RelayConnection,
    RelayUnreachableError,
    Start,
)
from trapline.common.channel.event import Event
from trapline.common.config.mesh import load_config
from trapline.common.relay.process import relay_address
from trapline.common.relay.requests import Append, Info
from trapline.common.security.identity import client_keys, given_keys
from trapline.common.security.pair import ClientKeys
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of

__all__ = ["AsyncMesh", "Event", "Gap", "Mesh", "connect", "connect_async"]

T = TypeVar("T")

_POLL_S = 1.0
_log = structlog.get_logger()


class AsyncMesh:
    """A connection to a mesh, for asyncio. Made by `connect_async`."""

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._connection = RelayConnection(address, keys)

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._connection.__aexit__(*exception)

    async def channels(self) -> list[str]:
        """Return the names of the channels that have a partition.

        Raises
        ------
        RelayUnreachableError
            When the relay does not answer.
        """
        info = await self._connection.request(Info())
        return sorted({partition["channel"] for partition in info.values["partitions"]})

    async def subscribe(
        self, *channels: str, start: Start = "latest", gaps: bool = False
    ) -> AsyncGenerator[Event | Gap]:
        """Yield what is published on some channels, for ever, each partition in its order.

        Parameters
        ----------
        channels
            Their names. A channel that does not exist yet is waited for.
        start
            ``"first"``, ``"latest"``, a seq, or a UTC time in ISO form.
        gaps
            Also yield a `Gap` where records were lost; otherwise that is a warning in the log.

        Notes
        -----
        While the relay is away this waits, and says so once.
        """
        reader = ChannelReader(self._connection, channels, start=start)
        away = False
        while True:
            try:
                items = await reader.read(_POLL_S)
            except RelayUnreachableError as error:
                if not away:
                    _log.warning("waiting for the relay", reason=str(error))
                away = True
                continue
            away = False
            for item in items:
                if isinstance(item, Record):
                    yield Event(item)
                elif gaps:
                    yield item
                else:
                    _log.warning("records were lost", gap=str(item))

    async def publish(self, message: Message[Header], *, name: str, channel: str | None = None) -> Place:
        """Publish a message, and return its place once it outlives a power cut. Publishing it again changes nothing.

        Parameters
        ----------
        message
            Of a registered schema.
        name
            Of the publisher: its partition.
        channel
            Where to; by default the channel of the schema.

        Raises
        ------
        RelayRefusedError
            With the relay's reason.
        """
        target = channel or schema_of(type(message.header)).channel
        request = Append(channel=target, partition=name)
        reply = await self._connection.request(request, encode(message), timeout_s=10.0)
        return Place(target, name, reply.values["epoch"], reply.values["seq"])


class Mesh:
    """A connection to a mesh for plain, blocking programs and notebooks. Made by `connect`.

    The same calls as `AsyncMesh`, run by an event loop in a thread.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._mesh = AsyncMesh(address, keys)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="trapline client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._mesh.__aenter__())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._call(self._mesh.__aexit__(*exception))
        self._stop_loop()

    def channels(self) -> list[str]:
        """Return the names of the channels that have a partition."""
        return self._call(self._mesh.channels())

    def subscribe(self, *channels: str, start: Start = "latest", gaps: bool = False) -> Iterator[Any]:
        """Yield what is published on some channels, for ever; see `AsyncMesh.subscribe`."""
        stream = self._mesh.subscribe(*channels, start=start, gaps=gaps)
        try:
            while True:
                yield self._call(anext(stream))
        finally:
            # A loop that was left may be collected long after the connection is closed.
            if not self._loop.is_closed():
                self._call(stream.aclose())

    def publish(self, message: Message[Header], *, name: str, channel: str | None = None) -> Place:
        """Publish a message; see `AsyncMesh.publish`."""
        return self._call(self._mesh.publish(message, name=name, channel=channel))

    def _call(self, work: Awaitable[T]) -> T:
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches only this thread: what runs in the other must not go on alone.
            future.cancel()
            raise

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def connect(address: str | None = None, *, key: str | Path | None = None, identity: str | Path | None = None) -> Mesh:
    """Return a connection for ``with``, to a relay or to the mesh of the configuration in this directory.

    Parameters
    ----------
    address
        Of a relay: ``tcp://host:port``.
    key
        Public key of a relay that wants keys, or the file with it; by default what ``[security] relays`` of the
        configuration says of the address.
    identity
        File with the own key pair, made by ``trapline keys new``; by default that of ``[security] identity``.

    Raises
    ------
    ConfigError
        When a key or the configuration cannot be used.
    """
    return Mesh(*_whereto(address, key, identity))


def connect_async(
    address: str | None = None, *, key: str | Path | None = None, identity: str | Path | None = None
) -> AsyncMesh:
    """Return a connection for ``async with``; see `connect`."""
    return AsyncMesh(*_whereto(address, key, identity))


def _whereto(address: str | None, key: str | Path | None, identity: str | Path | None) -> tuple[str, ClientKeys | None]:
    if address and key:
        return address, given_keys(key, identity)
    config = load_config()
    address = address or relay_address(config)
    return address, client_keys(config, address)


async def _awaited(work: Awaitable[T]) -> T:
    return await work
