"""A record as a plug-in sees it: fields and columns by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from trapline.common.channel.filters import Filter, field_of
from trapline.common.channel.record import Record
from trapline.schemas.columns import Array, NewerSchemaError, SchemaError
from trapline.schemas.described import Unregistered
from trapline.schemas.header import Header, Place
from trapline.schemas.message import decode

_log = structlog.get_logger()


class Event:
    """A record whose header fields are attributes and whose arrays are items.

    ``event.kind`` and ``event.image.band.name`` come from the header; ``event["flux_int"]`` is a numpy array, a
    read-only view of what was received. `time` is the observation start, `place` where the record stands. Messages of
    plug-ins that this program does not know are read by what they say of themselves.

    Raises
    ------
    SchemaError
        When the record is no message, or (`NewerSchemaError`) one of a newer major version; the text names its place.
    """

    def __init__(self, record: Record) -> None:
        try:
            message = decode(record.frames, unknown_ok=True)
        except SchemaError as error:
            raise type(error)(f"{record.place}: {error}") from None
        self.record = record
        self.header: Header = message.header
        self.arrays: Mapping[str, Array] = message.arrays

    @property
    def place(self) -> Place:
        """Channel, partition, epoch and seq."""
        return self.record.place

    @property
    def t_us(self) -> int | None:
        """Observation start in microseconds since 1970-01-01 UTC; None when the record has none."""
        image = getattr(self.header, "image", None)
        own = field_of(self.header, "t_us")
        return own if own is not None else image.t_start_us if image else None

    @property
    def time(self) -> Any:
        """Observation start as an astropy `Time` (UTC); None when the record has none."""
        t_us = self.t_us
        if t_us is None:
            return None
        # A plug-in that never asks for a time need not wait for astropy.
        import numpy as np
        from astropy.time import Time

        # By the calendar: astropy's seconds since 1970 are stretched on a day with a leap second.
        time = Time(np.datetime64(t_us, "us"), format="datetime64", scale="utc")
        time.format = "unix"
        return time

    def table(self, name: str = "") -> Any:
        """Return a table of the record as an astropy `Table`: units from the schema, ids as text.

        Parameters
        ----------
        name
            Of the table: ``recent`` of an event, ``states`` of a lightcurves record. Without one the table whose
            columns have no prefix, or else the only one there is.

        Raises
        ------
        KeyError
            When the record has no such table, saying which it has.
        """
        from trapline.common.channel.tables import make_table

        return make_table(self.header, self.arrays, name)

    def wanted(self, only: Filter) -> bool:
        """Keep the rows that a filter takes; return whether the event is wanted at all."""
        arrays = only.rows(self.arrays)
        if arrays is None or not only.takes(self.header):
            return False
        self.arrays = arrays
        return True

    def __getattr__(self, name: str) -> Any:
        header = self.__dict__.get("header")
        if isinstance(header, Unregistered) and name in header.fields:
            return header.fields[name]
        try:
            return getattr(header, name)
        except AttributeError:
            if not isinstance(header, Header):
                raise
            own = [*header.__struct_fields__, *(header.fields if isinstance(header, Unregistered) else ())]
            fields = ", ".join(own)
            raise AttributeError(f"{header.schema} has no field {name!r}; it has {fields}, time, place") from None

    def __getitem__(self, name: str) -> Array:
        try:
            return self.arrays[name]
        except KeyError:
            columns = ", ".join(self.arrays) or "none"
            raise KeyError(f"{self.header.schema} has no array {name!r}; it has {columns}") from None

    def __repr__(self) -> str:
        return f"<{self.header.schema} at {self.place}>"


def read_event(record: Record, only: Filter) -> Event | None:
    """Return the event of a record; None when a filter leaves it out, or when it is no message, which is logged.

    Raises
    ------
    NewerSchemaError
        When only a newer release can read it.
    """
    try:
        event = Event(record)
    except NewerSchemaError:
        raise
    except SchemaError as error:
        _log.warning("left out what is no message", reason=str(error))
        return None
    return event if event.wanted(only) else None
