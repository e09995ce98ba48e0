"""Inputs that a service could not take, kept where an operator finds them."""

from __future__ import annotations

from typing import Any

from trapline.common.channel import Channels, Record
from trapline.common.ids import record_id
from trapline.common.relay.requests import Item, Nack
from trapline.common.runtime.context import Context
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header
from trapline.schemas.message import Message
from trapline.schemas.status import DEAD_LETTERS_SCHEMA, DeadLetter


def dead_letter(context: Context, record: Record, text: str) -> Message[Header]:
    """Return the message that takes a record's place when nothing can be made of it, and count it."""
    context.counters["dead_letters"] += 1
    return letter(context.service, context.config.mesh.dataset, record, text)


def letter(service: str, dataset: str, record: Record, text: str) -> Message[Header]:
    """Return the message in which a service, or a group of workers, says that it cannot take a record."""
    place = record.place
    token = f"{service}:{place.channel}:{place.partition}:{place.seq}".encode()
    header = DeadLetter(
        schema=DEAD_LETTERS_SCHEMA,
        id=record_id(0, DEAD_LETTERS_SCHEMA, token),
        dataset=dataset,
        service=service,
        place=place,
        image_id=_image_of(record),
        input=bytes(record.frames[0]) if record.frames else b"",
        traceback=text,
        attempts=record.attempts + 1,
    )
    return Message(header)


async def take_again(connection: Channels, letter: DeadLetter) -> None:
    """Let the workers of a group have a record once more that is a dead letter, now that its cause is mended.

    What others have made of the stream without an answer stays: an image is folded once. Its sources will be on their
    channel, and lightcurves that were folded without them are as they are.

    Raises
    ------
    ValueError
        When it cannot be taken again, with the reason.
    RelayUnreachableError, RelayRefusedError
        When the relay does not answer, or refuses.
    """
    place, info = letter.place, await connection.info()
    key = (place.channel, place.partition)
    if (letter.service, *key) not in {(g["group"], g["channel"], g["partition"]) for g in info["groups"]}:
        raise ValueError(
            f"{letter.service} takes its records in one order, and passes {place} over for good, so that its results "
            "can be made again: process the images once more under another --dataset"
        )
    first = next((p["first_seq"] for p in info["partitions"] if (p["channel"], p["partition"]) == key), None)
    if first is None or place.seq < first:
        raise ValueError(f"{place} is not kept any more: {'/'.join(key)} begins at {first}")
    item = Item(place.channel, place.partition, place.seq, place.epoch)
    await connection.nack(Nack(group=letter.service, items=[item], again=True))


def _image_of(record: Record) -> bytes | None:
    try:
        image: Any = getattr(record.header, "image", None)
    except SchemaError:
        return None
    return image.id if image else None
