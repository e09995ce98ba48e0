"""Working on a channel as one of a group: each record is with one worker at a time, until it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from trapline.client.patience import Patience
from trapline.common.channel import Channels, GroupMember, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.event import Event
from trapline.common.runtime.dead_letters import letter
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Place
from trapline.schemas.message import encode

_log = structlog.get_logger()


class Desk:
    """What one worker of a group has in hand: leased, extended while it works, done or given back.

    Parameters
    ----------
    connection
        To the relay.
    group, worker
        The group, and this worker's own name in it.
    channels
        What the group shares, the most urgent first.
    max_attempts
        How often a record is tried, by whomever, before it goes to `dead_letters`.
    """

    def __init__(
        self, connection: Channels, group: str, worker: str, channels: Sequence[str], max_attempts: int
    ) -> None:
        self._connection, self._group, self._max_attempts = connection, group, max_attempts
        self._member = GroupMember(connection, group, worker, tuple(channels))
        self._held: dict[Place, Record] = {}
        self._extending = asyncio.create_task(self._extend(), name=f"extend leases of {group}")

    async def lease(self, count: int, wait_s: float) -> list[Event]:
        """Return records that nobody else has; none when none came in time."""
        records = await self._member.lease(count, wait_s)
        self._held |= {record.place: record for record in records}
        # If this process dies now, that is an attempt at each of them.
        self._tell()
        events = [await self._event(record) for record in records]
        return [event for event in events if event is not None]

    async def done(self, places: Sequence[Place]) -> None:
        """Say that records are done, to a relay that may be away for a while."""
        records = [self._held[place] for place in places if place in self._held]
        await Patience(limit_s=30.0).call(lambda: self._member.ack(records))
        self._let_go(places)

    async def give_back(self, places: Sequence[Place], *, failed: bool) -> None:
        """Give records to another worker; `failed` counts as an attempt."""
        records = [self._held[place] for place in places if place in self._held]
        self._let_go(places)
        await self._member.give_back(records, failed=failed)

    def has(self, place: Place) -> bool:
        """Tell whether a record is in hand."""
        return place in self._held

    async def close(self, *, failed: bool) -> None:
        """Give back what is in hand; `failed` when an error of the handler is why."""
        self._extending.cancel()
        with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
            if self._held and failed:
                await self.give_back(list(self._held), failed=True)
            await self._member.leave()

    async def _event(self, record: Record) -> Event | None:
        """Return a record as an event; one that was tried too often, or is no message, is put aside instead."""
        reason = f"it was tried {record.attempts} times by the group {self._group}"
        if record.attempts < self._max_attempts:
            try:
                return Event(record)
            except SchemaError as error:
                reason = str(error)
        _log.error("put aside in dead_letters", place=str(record.place), reason=reason)
        message = letter(self._group, "default", record, reason)
        await self._connection.append("dead_letters", self._group, encode(message))
        await self.done([record.place])
        return None

    def _let_go(self, places: Sequence[Place]) -> None:
        for place in places:
            self._held.pop(place, None)

    def _tell(self) -> None:
        if self._held:
            self._member.extend(self._held.values(), self._held.values())

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._member.lease_s / 3)
            self._tell()
