"""Giving events to an outlet at least once, from a position of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from trapline.common.channel import Record
from trapline.common.journal.epochs import replace_file
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Context
from trapline.common.runtime.sink import Unavailable
from trapline.outlets.config import Filters
from trapline.outlets.core import passes
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Place
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients

Deliver = Callable[[Message[Transients]], Awaitable[None]]
"""The whole interface of an outlet. It raises `Unavailable` when the other side does not answer now: the event is
offered again until it does. Any other error is the event's fault: it becomes a dead letter, and the next one is
offered. An event may come twice, with the same record id, when the process dies in between."""


class OutletStore:
    """Where `Sink` puts events: into an outlet; the position behind each is on disk before the next is offered.

    Parameters
    ----------
    context
        Counts `NAME_delivered` and `NAME_filtered`.
    name
        Of the outlet.
    deliver
        Takes one event.
    filters
        Which events it is given.
    path
        File of its position.
    first
        Positions to begin with when there is no file yet.
    """

    def __init__(
        self, context: Context, name: str, deliver: Deliver, filters: Filters, path: Path, first: Sequence[Cursor] = ()
    ) -> None:
        self._context, self._name, self._deliver, self._filters, self._path = context, name, deliver, filters, path
        self._refused: dict[Place, Exception] = {}
        self._positions = {(c.channel, c.partition): c for c in read_positions(path) or first}

    async def positions(self) -> list[Cursor]:
        """Return where the outlet goes on."""
        return list(self._positions.values())

    async def store(self, records: Sequence[Record], positions: Sequence[Cursor]) -> None:
        """Deliver records one by one; what was delivered is not offered again when a later one fails."""
        for record in records:
            place = record.place
            done = self._positions.get((place.channel, place.partition))
            # Numbers begin anew in a new epoch where its writer lost some: the epoch counts first.
            if done is None or (place.epoch, place.seq) >= (done.epoch, done.seq):
                await self._offer_once(record)
                self._move([Cursor(place.channel, place.partition, place.seq + 1, place.epoch)])
        self._move(positions)

    async def mended(self, record: Record) -> None:
        """Say that an event is delivered as a whole or not at all."""

    async def _offer_once(self, record: Record) -> None:
        """Offer an event; one that was refused is not offered again while its fault is being found."""
        if (refusal := self._refused.get(record.place)) is not None:
            raise refusal
        try:
            await self._offer(record)
        except Unavailable:
            raise
        except Exception as error:
            self._refused = {record.place: error}
            raise

    async def _offer(self, record: Record) -> None:
        message = record.message
        if not isinstance(message.header, Transients):
            raise SchemaError(f"{record.place} is {message.header.schema}, not an event")
        event = cast("Message[Transients]", message)
        if passes(event.header, self._filters):
            await self._deliver(event)
            self._context.counters[f"{self._name}_delivered"] += 1
        else:
            self._context.counters[f"{self._name}_filtered"] += 1

    def _move(self, positions: Sequence[Cursor]) -> None:
        moved = {(c.channel, c.partition): c for c in positions}
        if any(self._positions.get(key) != c for key, c in moved.items()):
            self._positions |= moved
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, msgspec.json.encode(list(self._positions.values())))


def read_positions(path: Path) -> list[Cursor] | None:
    """Return the positions in a file; None when there is none. `ValueError` when it is damaged, with the way out."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Cursor])
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and set where the outlet begins with start"
        ) from None
