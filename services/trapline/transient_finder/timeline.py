"""Where the time went: when each service published what an event was made of.

Added to events on their way out, from the headers that are in the journals: no part of the fold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from trapline.common.channel import Channels, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.channel.nearby import Nearby
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header, Place
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.transients import Stage, Transients

_PATIENCE_S = 0.5  # an event is worth more than to know why it is late


Folded = Mapping[Place, Lightcurves]
"""headers of the records of `lightcurves` that open events, by their places"""


async def timelines_of(connection: Channels, folded: Folded, nearby: Nearby | None = None) -> dict[Place, list[Stage]]:
    """Return when each of these records, and what it was made of, was published: empty where that is gone."""
    found = await asyncio.gather(*(_stages(connection, header, nearby) for header in folded.values()))
    return dict(zip(folded, found, strict=True))


def with_timelines(
    messages: Iterable[Message[Header]], folded: Folded, told: Mapping[Place, list[Stage]]
) -> list[Message[Header]]:
    """Return messages with a timeline in those that open an event in the image that was folded last."""
    return [
        _with_timeline(m, folded[m.header.consumed[0]], told[m.header.consumed[0]]) if opens(m.header) else m
        for m in messages
    ]


def opens(header: Header) -> bool:
    """Return whether a message opens an event."""
    return isinstance(header, Transients) and header.alert_type == "initial"


def _with_timeline(message: Message[Header], folded: Lightcurves, stages: list[Stage]) -> Message[Header]:
    header = message.header
    # A value that came later opened it: when its image was measured says nothing of how fast that was.
    if not isinstance(header, Transients) or folded.image is None or header.image_id != folded.image.id:
        return message
    return Message(msgspec.structs.replace(header, timeline=stages), message.arrays)


async def _stages(connection: Channels, folded: Lightcurves, nearby: Nearby | None) -> list[Stage]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            inputs = await asyncio.gather(*(_header(connection, place, nearby) for place in folded.consumed))
    except (TimeoutError, RelayUnreachableError, RelayRefusedError, SchemaError):
        return []
    known = [header for header in (*inputs, folded) if header is not None]
    return sorted((Stage(header.producer, header.t_pub_us) for header in known), key=lambda stage: stage.t_pub_us)


async def _header(connection: Channels, place: Place, nearby: Nearby | None) -> Header | None:
    record = await record_at(connection, place, headers_only=True, nearby=nearby)
    return record.header if record else None
