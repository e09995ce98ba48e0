"""One record, by its place."""

from __future__ import annotations

from trapline.common.channel.interface import Channels
from trapline.common.channel.nearby import Nearby
from trapline.common.channel.record import Record, unpack_slab
from trapline.common.relay.requests import Cursor, Fetch
from trapline.schemas.header import Place


async def record_at(
    connection: Channels, place: Place, *, headers_only: bool = False, nearby: Nearby | None = None
) -> Record | None:
    """Return the record at a place, or at least its header with `headers_only`; None when it is there no more.

    What is `nearby` is taken from there.

    Raises
    ------
    RelayUnreachableError, RelayRefusedError
        When the relay does not answer, or refuses.
    """
    if nearby is not None and (found := nearby.at(place)) is not None:
        return found
    cursor = Cursor(place.channel, place.partition, place.seq, place.epoch)
    reply = await connection.fetch(Fetch(cursors=[cursor], max_bytes=1, max_records=1, headers_only=headers_only))
    for description, data in zip(reply.values["slabs"], reply.buffers, strict=True):
        for record in unpack_slab(description, data):
            # Behind a gap or a cut comes another record, in its stead.
            if record.place == place:
                return record
    return None
