"""From a file or an event of a stream to messages: what image_ingest appends to `images`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import xxhash

from trapline.image_ingest.config import StreamConfig
from trapline.image_ingest.core import describe, describe_unreadable, unreadable
from trapline.image_ingest.events import Event, StreamImage
from trapline.image_ingest.fitsfile import UnreadableError, read_fits
from trapline.image_ingest.instruments import Settings
from trapline.image_ingest.quality import RmsHistory
from trapline.schemas.images import Images
from trapline.schemas.message import Message

_CHUNK_BYTES = 1 << 20


def describe_event(
    event: Event, stream: StreamConfig, settings: Settings, history: RmsHistory | None = None
) -> Message[Images]:
    """Return the message of what came over a stream, a broken image included."""
    origin = f"{stream.address}@{event.position}"
    if isinstance(event, StreamImage):
        return describe(
            event.header,
            event.pixels,
            origin=f"{origin} {event.plane}".rstrip(),
            settings=settings,
            instrument=stream.instrument,
            history=history,
        )
    return describe_unreadable(event.data, [unreadable(event.reason)], origin, settings)


def describe_file(
    path: Path, settings: Settings, *, instrument: str | None = None, history: RmsHistory | None = None
) -> Iterator[Message[Images]]:
    """Yield a message for every image of a file, and one for what of it cannot be read."""
    try:
        for image in read_fits(path, limit_bytes=settings.config.max_image_bytes):
            yield describe(
                image.header,
                image.pixels,
                origin=image.origin,
                settings=settings,
                instrument=instrument,
                history=history,
            )
    except UnreadableError as error:
        yield _unreadable_file(path, error, settings)


def describe_fatal_file(path: Path, deaths: int, settings: Settings) -> Message[Images]:
    """Return the message of a file that is not opened any more, because its readers died."""
    text = f"{path}: the process died {deaths} times while it read this file; it is left alone until it changes"
    return describe_unreadable(str(path).encode(), [unreadable(text)], str(path), settings)


def _unreadable_file(path: Path, error: UnreadableError, settings: Settings) -> Message[Images]:
    reasons = [unreadable(error)]
    try:
        digest = _digest(path) if path.stat().st_size else None
    except OSError:
        digest = None
    # Of what is missing, closed to us, or empty the name is all there is.
    return describe_unreadable(digest or str(path).encode(), reasons, str(path), settings)


def _digest(path: Path) -> xxhash.xxh3_128:
    """Return the hash of a file that may be larger than memory.

    It is not mapped: who shortens a mapped file while it is read kills the reader with SIGBUS.
    """
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest
