"""Cut-outs: the pixels about an event, with their own WCS, while its image is in the journal.

They are added to events on their way out, and are no part of the fold: what is announced does not depend on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader

from trapline.common.channel import Channels, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.channel.nearby import Nearby
from trapline.common.runtime.context import Context
from trapline.common.wcs import WcsError, parse_wcs
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header, Place
from trapline.schemas.images import Images as ImagesHeader
from trapline.schemas.message import Message
from trapline.schemas.transients import CUTOUT, Transients

Pixels = npt.NDArray[np.float32]

_PATIENCE_S = 1.0  # an event is worth more than its cut-out


Images = Mapping[Place, Message[ImagesHeader] | None]
"""records by their places; None where there is no image any more"""


async def images_of(connection: Channels, messages: Iterable[Message[Header]], nearby: Nearby | None = None) -> Images:
    """Return the images of messages that open an event: those `nearby`, the others fetched once, at the same time."""
    places = list(dict.fromkeys(place for m in messages if (place := _wanted(m)) is not None))
    return dict(zip(places, await asyncio.gather(*(_image_at(connection, p, nearby) for p in places)), strict=True))


def with_cutouts(
    context: Context, messages: Iterable[Message[Header]], images: Images, side_px: int
) -> list[Message[Header]]:
    """Return messages with a cut-out in those that open an event and whose image is there.

    Counted are `cutouts` and `cutouts_missing`.
    """
    return [_with_cutout(context, message, images, side_px) for message in messages]


def cut_out(image: Message[ImagesHeader], ra_deg: float, dec_deg: float, side_px: int) -> tuple[Pixels, str] | None:
    """Return a square of pixels about a position, NaN beyond the image, and the FITS cards of their own WCS.

    None when the image has no pixels or WCS, or the position is not in it.
    """
    described, pixels = image.header.image, image.arrays.get("pixels")
    if described is None or described.wcs is None or pixels is None:
        return None
    x, y = (float(value) for value in parse_wcs(described.wcs).to_pixel(ra_deg, dec_deg))
    ny, nx = pixels.shape
    if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
        return None
    left, top = round(x) - side_px // 2, round(y) - side_px // 2
    cut = np.full((side_px, side_px), np.nan, np.float32)
    rows, columns = (slice(max(low, 0), min(low + side_px, n)) for low, n in ((top, ny), (left, nx)))
    cut[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[rows, columns]
    cards: Any = FitsHeader.fromstring(described.wcs)
    cards["CRPIX1"] -= left
    cards["CRPIX2"] -= top
    return cut, str(cards.tostring(padding=False, endcard=False))


def _wanted(message: Message[Header]) -> Place | None:
    header = message.header
    return header.image_place if isinstance(header, Transients) and header.alert_type == "initial" else None


def _with_cutout(context: Context, message: Message[Header], images: Images, side_px: int) -> Message[Header]:
    place, header = _wanted(message), message.header
    if place is None or place not in images or not isinstance(header, Transients):
        return message
    image = images[place]
    try:
        found = None if image is None else cut_out(image, header.ra_deg, header.dec_deg, side_px)
    except (WcsError, KeyError):
        found = None
    if found is None:
        context.counters["cutouts_missing"] += 1
        return message
    context.counters["cutouts"] += 1
    pixels, cards = found
    return Message(msgspec.structs.replace(header, cutout_wcs=cards), {**message.arrays, CUTOUT.name: pixels})


async def _image_at(connection: Channels, place: Place, nearby: Nearby | None) -> Message[ImagesHeader] | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            record = await record_at(connection, place, nearby=nearby)
        message = record.message if record else None
    except (TimeoutError, RelayUnreachableError, RelayRefusedError, SchemaError):
        return None
    # What stands at the place of an image is one, unless the journal is another's.
    return cast("Message[ImagesHeader]", message) if message and isinstance(message.header, ImagesHeader) else None
