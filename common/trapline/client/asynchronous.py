"""The client's calls for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Self

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
from trapline.common.relay.requests import Append, Info
from trapline.common.security.pair import ClientKeys
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of

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
