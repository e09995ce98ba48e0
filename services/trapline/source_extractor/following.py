"""Keeping up with `watchlist`: records come in the loop, and are taken up between images in the handler's thread."""

from __future__ import annotations

import asyncio
from collections import deque

from trapline.common.channel import ChannelReader, Gap, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Backoff, Context
from trapline.schemas.columns import SchemaError
from trapline.schemas.watchlist import Watchlist as WatchlistHeader
from trapline.source_extractor.watchlist import Watchlist, Watchlists

_CHANNEL = "watchlist"
_LOOK_BACK = 5000  # records in which the newest full list is looked for


class Follower:
    """Reads `watchlist` while the service runs. What it misses costs requests on `remeasure`, and nothing else."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inbox: deque[Record] = deque()
        self._lists: dict[str, Watchlist] = {}

    def current(self) -> Watchlists:
        """Return the newest lists, one per associator. Called by the thread that measures, and by no other."""
        while self._inbox:
            record = self._inbox.popleft()
            try:
                self._take(record)
            except SchemaError as error:
                self._context.counters["watchlist_refused"] += 1
                self._context.log.warning("cannot take a watchlist", place=str(record.place), reason=str(error))
        return Watchlists(tuple(self._lists.values()))

    async def follow(self) -> None:
        """Read for ever, from the newest full list of each partition on."""
        backoff, reader = Backoff(), None
        while True:
            try:
                reader = reader or ChannelReader(
                    self._context.connection, (_CHANNEL,), start="first", positions=await self._newest_full()
                )
                items = await reader.read()
                backoff.reset()
            except (RelayUnreachableError, RelayRefusedError):
                await asyncio.sleep(backoff.next_s())
                continue
            if any(isinstance(item, Gap) for item in items):
                self._context.counters["watchlist_gaps"] += 1
            self._inbox.extend(item for item in items if isinstance(item, Record))

    async def _newest_full(self) -> list[Cursor]:
        """Return where to begin: at the newest full list of each partition, or as far back as is looked."""
        info = await self._context.connection.info()
        partitions = [p for p in info["partitions"] if p["channel"] == _CHANNEL]
        found = {
            p["partition"]: Cursor(_CHANNEL, p["partition"], max(p["first_seq"], p["next_seq"] - _LOOK_BACK))
            for p in partitions
        }
        reader = ChannelReader(self._context.connection, (_CHANNEL,), positions=found.values(), headers_only=True)
        while partitions:
            for item in await reader.read(0):
                if isinstance(item, Record) and _is_full(item):
                    place = item.place
                    found[place.partition] = Cursor(_CHANNEL, place.partition, place.seq)
            if reader.caught_up:
                break
        return list(found.values())

    def _take(self, record: Record) -> None:
        message = record.message
        if isinstance(message.header, WatchlistHeader):
            held = self._lists.setdefault(record.place.partition, Watchlist())
            held.update(message.header.version, message.arrays, full=message.header.full)


def _is_full(record: Record) -> bool:
    try:
        header = record.header
    except SchemaError:
        return False
    return isinstance(header, WatchlistHeader) and header.full
