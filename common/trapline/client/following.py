"""Following channels: through a relay that comes and goes, and under a name from where it was left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence

from trapline.client.patience import Patience
from trapline.common.channel import (
    ChannelReader,
    Channels,
    Gap,
    Record,
    RelayRefusedError,
    RelayUnreachableError,
    Start,
)
from trapline.common.channel.filters import Filter
from trapline.common.channel.subscription import Subscription
from trapline.common.relay.requests import UNPINNED, Cursor, Position, Read

_POLL_S = 1.0
_TELL_S = 0.2  # how often a position is told while records come; that much may be repeated after `kill -9`
_REPEAT_S = 1.0  # and while none come: what was told may be lost with a relay that dies


async def follow(
    connection: Channels,
    channels: Sequence[str],
    *,
    start: Start,
    name: str | None,
    pin: bool,
    only: Filter,
    missing_ok: bool,
) -> AsyncGenerator[Record | Gap]:
    """Yield what comes on some channels, for ever, merged by time; with a name, go on where that name was.

    A record or gap counts as done when the next one is asked for.
    """
    patience = Patience()
    known = await patience.call(lambda: _resumed(connection, channels, name)) if name else []
    reader = Subscription(connection, tuple(channels), start=start, positions=known, only=only)
    await patience.call(lambda: reader.check(missing_ok=missing_ok))
    progress = Progress(connection, name, reader, pin=pin) if name else None
    try:
        while True:
            for item in await patience.call(lambda: reader.read(_POLL_S)):
                yield item
                if progress:
                    progress.done(item)
            if progress:
                progress.tell()
    finally:
        if progress:
            await progress.close()


async def _resumed(connection: Channels, channels: Sequence[str], name: str) -> list[Cursor]:
    """Return where a named subscription goes on; a partition that came while it was away is read from its first."""
    held = {(r.channel, r.partition): r.seq for r in await connection.positions(name) if r.channel in channels}
    seen = {channel for channel, _ in held}
    for p in (await connection.info())["partitions"] if held else []:
        if p["channel"] in seen:
            held.setdefault((p["channel"], p["partition"]), p["first_seq"])
    return [Cursor(*key, seq=seq) for key, seq in held.items()]


class Progress:
    """Tells the relay how far a named subscription is.

    Parameters
    ----------
    connection, name
        The relay, and the name under which it keeps this.
    reader
        What is read with; it has discovered the partitions.
    pin
        Ask the relay to keep what is not done, as far as the channel's hard limit allows.
    """

    def __init__(self, connection: Channels, name: str, reader: ChannelReader, *, pin: bool) -> None:
        self._connection, self._name, self._pin = connection, name, pin
        self._next = {key: cursor.seq for key, cursor in reader.cursors.items()}
        self._told: dict[tuple[str, str], int] = {}
        self._told_at = float("-inf")

    def done(self, item: Record | Gap) -> None:
        """Note that the subscriber is done with a record or a gap."""
        if isinstance(item, Record):
            self._next[item.place.channel, item.place.partition] = item.place.seq + 1
        else:
            # What was lost with a power cut will be written again, under the same numbers.
            self._next[item.channel, item.partition] = item.first_seq if item.reason == "lost" else item.end_seq
        if time.monotonic() - self._told_at >= _TELL_S:
            self.tell()

    def tell(self) -> None:
        """Tell the relay, if there is something to tell."""
        now = time.monotonic()
        if self._next and (self._next != self._told or now - self._told_at >= _REPEAT_S):
            self._connection.notify(self._position())
            self._told, self._told_at = dict(self._next), now

    async def close(self) -> None:
        """Tell it for the last time, and wait until the relay knows, if it is there."""
        with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
            await self._connection.position(self._position())

    def _position(self) -> Position:
        reads = [Read(*key, seq=seq, safe=seq if self._pin else UNPINNED) for key, seq in sorted(self._next.items())]
        return Position(reader=self._name, reads=reads)
