"""The client's calls for asyncio."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator
from typing import Self

import structlog

from trapline.client.following import follow
from trapline.client.patience import Patience
from trapline.client.working import Desk
from trapline.common.channel import Connection, Gap, Record, Start
from trapline.common.channel.event import Event, read_event
from trapline.common.channel.filters import Cone, Names, make_filter
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of

_LEASE_S = 5.0  # how long one request for work waits
_log = structlog.get_logger()


class AsyncMesh:
    """A mesh, for asyncio; an async context manager. Made by `connect_async`.

    Parameters
    ----------
    connection
        To a backend of channels; it is opened and closed with this.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._desks: dict[tuple[str, tuple[str, ...]], Desk] = {}

    @property
    def address(self) -> str:
        """Where the relay is."""
        return self._connection.address

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        # Ctrl-C is no fault of the record in hand.
        failed = isinstance(exception[1], Exception)
        for desk in self._desks.values():
            await desk.close(failed=failed)
        await self._connection.__aexit__(*exception)

    async def channels(self) -> list[str]:
        """Return the names of the channels that have a partition.

        Raises
        ------
        RelayUnreachableError
            When the relay does not answer.
        """
        info = await self._connection.info()
        return sorted({partition["channel"] for partition in info["partitions"]})

    async def subscribe(
        self,
        *channels: str,
        start: Start = "latest",
        name: str | None = None,
        pin: bool = False,
        gaps: bool = False,
        band: Names = None,
        kind: Names = None,
        region: Cone | None = None,
        missing_ok: bool = False,
    ) -> AsyncGenerator[Event | Gap]:
        """Yield what is published on some channels, for ever, in the order in which it was appended.

        Parameters
        ----------
        channels
            Their names. A channel of a service that has nothing yet is waited for.
        start
            ``"first"``, ``"latest"``, a seq, or a UTC time in ISO form.
        name
            The relay keeps how far this subscription is, and under the same name it goes on there; `start` counts only
            the first time. An event is done when the next one is asked for: after ``kill -9`` the last ones, of 0.2 s
            at most, come again. One subscription at a time may have a name.
        pin
            Keep for this name what it has not done, up to the channel's hard limit. Without, it gets a gap when it was
            away for longer than the channel is kept.
        gaps
            Also yield a `Gap` where records were lost; otherwise that is a warning in the log.

        band, kind
            Names of bands; of kinds of events (``"flare"``) or of rows (``"blind"``, ``"forced"``): one or several.
        region
            (ra_deg, dec_deg, radius_deg): events and rows in this cone, images that overlap it.
        missing_ok
            Wait also for a channel that no one has written yet and no release knows.

        Raises
        ------
        UnknownChannelError
            When there is no such channel, with those that there are.
        RelayRefusedError
            When this client may not read one of them, with what it would need.
        NewerSchemaError
            At a message that only a newer release can read. What is no message at all is a warning in the log.

        Notes
        -----
        Filters are applied before the arrays of a record travel: they save the network, too. While the relay is away
        this waits, and says so once.
        """
        only = make_filter(band, kind, region)
        stream = follow(self._connection, channels, start=start, name=name, pin=pin, only=only, missing_ok=missing_ok)
        try:
            async for item in stream:
                if isinstance(item, Record):
                    if (event := read_event(item, only)) is not None:
                        yield event
                elif gaps:
                    yield item
                else:
                    _log.warning("records were lost", gap=str(item))
        finally:
            await stream.aclose()

    async def work(self, group: str, *channels: str, max_attempts: int = 3) -> AsyncGenerator[Event]:
        """Yield records for ever that no other worker of a group has.

        A record is done when the next one is asked for, or when `done` says so. Until then its lease is extended, as
        long as the event loop runs. When the mesh is closed with a record in hand, or this process dies, another worker
        gets it: an error that closes the mesh, and a death, count as an attempt. One that was tried `max_attempts`
        times goes to the channel `dead_letters`.

        Parameters
        ----------
        group
            Name that the workers share.
        channels
            What they share, the most urgent first.
        max_attempts
            How often a record is tried.
        """
        patience = Patience()
        desk = self._desk(group, channels, max_attempts)
        while True:
            for event in await patience.call(lambda: desk.lease(1, _LEASE_S)):
                yield event
                if desk.has(event.place):
                    await desk.done([event.place])

    async def lease(self, group: str, *channels: str, count: int = 1, wait_s: float = _LEASE_S) -> list[Event]:
        """Return up to `count` records that no other worker of a group has; none when none came within `wait_s`.

        They stay with this worker until `done` or `give_back`, as long as the event loop runs.

        Raises
        ------
        RelayUnreachableError, RelayRefusedError
            When the relay does not answer, or refuses.
        """
        return await self._desk(group, channels, 3).lease(count, wait_s)

    async def done(self, *events: Event) -> None:
        """Say that leased records are done: no worker of their group gets them again.

        Raises
        ------
        RelayUnreachableError
            When the relay was away for half a minute; the records may then come again.
        """
        for desk, places in self._by_desk(events):
            await desk.done(places)

    async def give_back(self, *events: Event, failed: bool = False) -> None:
        """Give leased records to another worker of their group; `failed` counts as an attempt."""
        for desk, places in self._by_desk(events):
            await desk.give_back(places, failed=failed)

    async def publish(
        self, message: Message[Header], *, name: str, channel: str | None = None, patience_s: float = 30.0
    ) -> Place:
        """Publish a message, and return its place once it outlives a power cut. Publishing it again changes nothing.

        Parameters
        ----------
        message
            Of a registered schema.
        name
            Of the publisher: its partition.
        channel
            Where to; by default the channel of the schema.
        patience_s
            How long to try while the relay is away.

        Raises
        ------
        RelayUnreachableError
            When it was away for longer.
        RelayRefusedError
            With the relay's reason.
        """
        target, frames = channel or schema_of(type(message.header)).channel, encode(message)
        return await Patience(patience_s).call(lambda: self._connection.append(target, name, frames))

    def _desk(self, group: str, channels: tuple[str, ...], max_attempts: int) -> Desk:
        key = (group, channels)
        if key not in self._desks:
            worker = f"{socket.gethostname()[:30]}-{os.getpid()}-{id(self):x}"
            self._desks[key] = Desk(self._connection, group, worker, channels, max_attempts)
        return self._desks[key]

    def _by_desk(self, events: tuple[Event, ...]) -> list[tuple[Desk, list[Place]]]:
        found = [(desk, [e.place for e in events if desk.has(e.place)]) for desk in self._desks.values()]
        return [(desk, places) for desk, places in found if places]
