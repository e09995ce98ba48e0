"""A record as a plug-in sees it: fields and columns by name."""

from __future__ import annotations

from typing import Any

from trapline.common.channel.record import Record
from trapline.schemas.columns import Array
from trapline.schemas.header import Header, Place


class Event:
    """A record whose header fields are attributes and whose arrays are items.

    ``event.kind`` and ``event.image.band.name`` come from the header; ``event["flux_int"]`` is a numpy array, a
    read-only view of what was received. `time` is the observation start, `place` where the record stands.
    """

    def __init__(self, record: Record) -> None:
        message = record.message
        self.record = record
        self.header: Header = message.header
        self.arrays = message.arrays

    @property
    def place(self) -> Place:
        """Channel, partition, epoch and seq."""
        return self.record.place

    @property
    def time(self) -> Any:
        """Observation start as an astropy `Time` (UTC); None when the record has none."""
        image = getattr(self.header, "image", None)
        t_us = getattr(self.header, "t_us", image.t_start_us if image else None)
        if t_us is None:
            return None
        # A plug-in that never asks for a time need not wait for astropy.
        from astropy.time import Time

        return Time(t_us // 1_000_000, t_us % 1_000_000 / 1e6, format="unix", scale="utc")

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.header, name)
        except AttributeError:
            fields = ", ".join(self.header.__struct_fields__)
            raise AttributeError(f"{self.header.schema} has no field {name!r}; it has {fields}, time, place") from None

    def __getitem__(self, name: str) -> Array:
        try:
            return self.arrays[name]
        except KeyError:
            columns = ", ".join(self.arrays) or "none"
            raise KeyError(f"{self.header.schema} has no array {name!r}; it has {columns}") from None

    def __repr__(self) -> str:
        return f"<{self.header.schema} at {self.place}>"
