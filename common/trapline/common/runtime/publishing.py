"""Publishing that waits for disk space instead of failing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.outputs import disk_full
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message
from trapline.schemas.registry import schema_of

_LOT_BYTES = 1 << 18  # of what is appended together
_SHARE = 4  # or a quarter of a segment: together they need room in one
_HEADER_BYTES = 4096  # a large one


async def publish(context: Context, messages: Iterable[Message[Header]]) -> list[Place]:
    """Append messages to this service's journals; on a full disk wait until retention has freed space."""
    places: list[Place] = []
    backoff = Backoff()
    lots = deque(_lots(messages, lambda channel: context.config.journal.of(channel).segment_bytes))
    while lots:
        channel, lot = lots.popleft()
        try:
            places += context.outputs.append(lot)
            context.counters[f"published_{channel}"] += len(lot)
        except OSError as error:
            if not disk_full(error):
                raise
            # There may be room for each alone, and never for all of them in one segment.
            lots.extendleft((channel, [message]) for message in reversed(lot))
            context.counters["disk_full_waits"] += 1
            where = error.filename or context.config.journal_directory
            context.trouble(f"{where}: {error.strerror}: free space, let readers catch up, or change [journal]")
            await context.pause(backoff.next_s())
    return places


def _lots(
    messages: Iterable[Message[Header]], segment_bytes: Callable[[str], int]
) -> Iterator[tuple[str, list[Message[Header]]]]:
    """Yield neighbours that go to one channel, with its name: appending them costs a writer more than their bytes."""
    lot: list[Message[Header]] = []
    last, size = "", 0
    for message in messages:
        channel = schema_of(type(message.header)).channel
        more = _HEADER_BYTES + sum(a.nbytes for a in message.arrays.values())
        if lot and (channel != last or size + more > min(_LOT_BYTES, segment_bytes(channel) // _SHARE)):
            yield last, lot
            lot, size = [], 0
        lot.append(message)
        last, size = channel, size + more
    if lot:
        yield last, lot
