"""Publishing that waits for disk space instead of failing."""

from __future__ import annotations

from collections.abc import Iterable

from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.outputs import disk_full
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message
from trapline.schemas.registry import schema_of


async def publish(context: Context, messages: Iterable[Message[Header]]) -> list[Place]:
    """Append messages to this service's journals; on a full disk wait until retention has freed space."""
    places: list[Place] = []
    backoff = Backoff()
    for message in messages:
        while True:
            try:
                places += context.outputs.append([message])
                break
            except OSError as error:
                if not disk_full(error):
                    raise
                context.counters["disk_full_waits"] += 1
                where = error.filename or context.config.journal_directory
                context.trouble(f"{where}: {error.strerror}: free space, let readers catch up, or change [journal]")
                await context.pause(backoff.next_s())
        context.counters[f"published_{schema_of(type(message.header)).channel}"] += 1
    return places
