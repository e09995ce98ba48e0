"""Publishing that waits for disk space instead of failing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.outputs import disk_full
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message
from trapline.schemas.registry import schema_of

_LOT_BYTES = 1 << 18  # of arrays that are appended together: what they need of a segment is bounded


async def publish(context: Context, messages: Iterable[Message[Header]]) -> list[Place]:
    """Append messages to this service's journals; on a full disk wait until retention has freed space."""
    places: list[Place] = []
    backoff = Backoff()
    for channel, lot in _lots(messages):
        while True:
            try:
                places += context.outputs.append(lot)
                break
            except OSError as error:
                if not disk_full(error):
                    raise
                context.counters["disk_full_waits"] += 1
                where = error.filename or context.config.journal_directory
                context.trouble(f"{where}: {error.strerror}: free space, let readers catch up, or change [journal]")
                await context.pause(backoff.next_s())
        context.counters[f"published_{channel}"] += len(lot)
    return places


def _lots(messages: Iterable[Message[Header]]) -> Iterator[tuple[str, list[Message[Header]]]]:
    """Yield neighbours that go to one channel, with its name: appending them costs a writer more than their bytes."""
    lot: list[Message[Header]] = []
    last, size = "", 0
    for message in messages:
        channel, more = schema_of(type(message.header)).channel, sum(a.nbytes for a in message.arrays.values())
        if lot and (channel != last or size + more > _LOT_BYTES):
            yield last, lot
            lot, size = [], 0
        lot.append(message)
        last, size = channel, size + more
    if lot:
        yield last, lot
