"""Whole records, fetched when a page shows them: lightcurves of events, cut-outs, images, their sources."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar
from uuid import UUID

import numpy as np

from trapline.common.channel import Channels, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.sky import separation_deg
from trapline.common.wcs import WcsError, parse_wcs
from trapline.dashboard.picture import cut_out, png
from trapline.dashboard.window import ChannelWindow, Entry
from trapline.schemas.columns import Array, SchemaError
from trapline.schemas.header import Header, Place
from trapline.schemas.image import Image
from trapline.schemas.images import Images
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from trapline.schemas.transients import RECENT, Transients

T = TypeVar("T")


class Kept(Generic[T]):
    """The last results of something that costs a request, by key; what failed is asked for again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Any, T] = OrderedDict()

    async def get(self, key: Any, make: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return what is kept under a key, made now if it is not there."""
        if key not in self._found:
            made = await make()
            if made is None:
                return None
            self._found[key] = made
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]


class Records:
    """Fetches whole records of places that a window knows.

    Parameters
    ----------
    connection
        To the relay.
    window
        Which records there are.
    """

    def __init__(self, connection: Channels, window: ChannelWindow) -> None:
        self._connection = connection
        self._window = window
        self._recent: Kept[dict[str, Array]] = Kept(2000)
        self._stamps: Kept[bytes] = Kept(500)
        self._one_at_a_time = asyncio.Semaphore(2)

    async def message(self, place: Place) -> Message[Header] | None:
        """Return the message at a place; None when it is there no more, or cannot be read."""
        try:
            record = await record_at(self._connection, place)
            message = record.message if record else None
        except (RelayRefusedError, RelayUnreachableError, SchemaError):
            return None
        return message

    async def recent(self, place: Place | None) -> Mapping[str, Array]:
        """Return the points that came with an event, by column; empty when the event is not in its journal."""

        async def make() -> dict[str, Array] | None:
            message = await self.message(place) if place else None
            return None if message is None else {k: v.copy() for k, v in RECENT.select(message.arrays).items()}

        return await self._recent.get(place, make) or {} if place else {}

    async def stamp(self, key: UUID, event: Entry | None, image: bytes, ra_deg: float, dec_deg: float) -> bytes | None:
        """Return a PNG of the sky about an event: its own cut-out, else from its image while the journal has it."""

        async def make() -> bytes | None:
            async with self._one_at_a_time:
                own = await self._own_cutout(event)
                return own or await self.cut(image, ra_deg, dec_deg)

        return await self._stamps.get(key, make)

    async def cut(self, image: bytes, ra_deg: float, dec_deg: float) -> bytes | None:
        """Return a PNG of the surroundings of a position in an image; None when that is not in its journal."""
        found = await self.pixels(image)
        if found is None:
            return None
        header, pixels = found
        try:
            x, y = parse_wcs((header.image and header.image.wcs) or "").to_pixel(ra_deg, dec_deg)
        except WcsError:
            return None
        if not (x == x and y == y):  # noqa: PLR0124  NaN: on the far side of the sky
            return None
        stamp = cut_out(pixels, float(x), float(y))
        return await asyncio.to_thread(png, stamp)

    async def pixels(self, image: bytes) -> tuple[Images, Any] | None:
        """Return the header and the pixels of an image; None when they are not in the journal."""
        entry = self.image(image)
        message = await self.message(entry.place) if entry else None
        if message is None or "pixels" not in message.arrays or not isinstance(message.header, Images):
            return None
        return message.header, message.arrays["pixels"]

    def images(self) -> Iterator[tuple[Entry, Images]]:
        """Yield the images that the window knows, oldest first within a partition."""
        for entry in self._window.of("images"):
            if isinstance(entry.header, Images) and entry.header.image is not None:
                yield entry, entry.header

    def covering(self, ra_deg: float, dec_deg: float, most: int) -> list[Image]:
        """Return the newest images that cover a position (ICRS), newest first."""
        found = []
        for _, header in self.images():
            image = header.image
            if image is None or image.centre_ra_deg is None or image.centre_dec_deg is None or not image.radius_deg:
                continue
            distance = separation_deg(ra_deg, dec_deg, image.centre_ra_deg, image.centre_dec_deg)
            if distance < image.radius_deg and not image.quality.rejected:
                found.append(image)
        return sorted(found, key=lambda image: image.t_start_us or 0, reverse=True)[:most]

    def image(self, image: bytes) -> Entry | None:
        """Return where an image stands in its journal."""
        return next((e for e, header in self.images() if header.image and header.image.id == image), None)

    async def sources(self, image: bytes) -> list[tuple[Sources, Mapping[str, Array]]]:
        """Return all measurements of an image that the journals still have: header and columns."""
        places = [
            entry.place
            for entry in self._window.of("sources")
            if isinstance(entry.header, Sources) and entry.header.image.id == image
        ]
        messages = await asyncio.gather(*(self.message(place) for place in places))
        return [(m.header, m.arrays) for m in messages if m is not None and isinstance(m.header, Sources)]

    def has_stamp(self, event: Entry | None, image: bytes) -> bool:
        """Tell whether there may be a picture of an event."""
        own = event is not None and any(f.name == "cutout" for f in event.header.frames)
        return own or self.image(image) is not None

    async def _own_cutout(self, event: Entry | None) -> bytes | None:
        if event is None or not any(f.name == "cutout" for f in event.header.frames):
            return None
        message = await self.message(event.place)
        if message is None or not isinstance(message.header, Transients):
            return None
        return await asyncio.to_thread(png, message.arrays["cutout"].astype(np.float64))
