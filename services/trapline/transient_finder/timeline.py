"""Where the time went: when each service published what an event was made of.

Added to events on their way out, from the headers that are in the journals: no part of the fold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from trapline.common.channel import Channels, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.runtime.context import Context
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header, Place
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.transients import Stage, Transients

_PATIENCE_S = 0.5  # an event is worth more than to know why it is late


async def with_timelines(context: Context, messages: Iterable[Message[Header]]) -> list[Message[Header]]:
    """Return messages with a timeline in those that open an event in the image that was folded last."""
    messages = list(messages)
    places = {m.header.consumed[0]: None for m in messages if _opens(m.header)}
    told = {place: await _stages(context.connection, place) for place in places}
    return [_with_timeline(m, *told[m.header.consumed[0]]) if _opens(m.header) else m for m in messages]


def _opens(header: Header) -> bool:
    return isinstance(header, Transients) and header.alert_type == "initial" and len(header.consumed) == 1


def _with_timeline(message: Message[Header], image_id: bytes | None, stages: list[Stage]) -> Message[Header]:
    header = message.header
    # A value that came later opened it: when its image was measured says nothing of how fast that was.
    if not isinstance(header, Transients) or header.image_id != image_id:
        return message
    return Message(msgspec.structs.replace(header, timeline=stages), message.arrays)


async def _stages(connection: Channels, place: Place) -> tuple[bytes | None, list[Stage]]:
    """Return the image of a record of `lightcurves`, and when it and what it was made of were published."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            lightcurves = await _header(connection, place)
            if not isinstance(lightcurves, Lightcurves) or lightcurves.image is None:
                return None, []
            inputs = await asyncio.gather(*(_header(connection, p) for p in lightcurves.consumed))
    except (TimeoutError, RelayUnreachableError, RelayRefusedError, SchemaError):
        return None, []
    known = [header for header in (*inputs, lightcurves) if header is not None]
    stages = [Stage(header.producer, header.t_pub_us) for header in known]
    return lightcurves.image.id, sorted(stages, key=lambda stage: stage.t_pub_us)


async def _header(connection: Channels, place: Place) -> Header | None:
    record = await record_at(connection, place, headers_only=True)
    return record.header if record else None
