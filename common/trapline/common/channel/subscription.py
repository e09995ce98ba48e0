"""Several channels as one stream: merged by time, and filtered before the arrays of a record travel."""

from __future__ import annotations

import difflib
from collections import deque
from dataclasses import dataclass, field

from trapline.common.channel.filters import Filter
from trapline.common.channel.lookup import record_at
from trapline.common.channel.reader import ChannelReader, PartitionKey
from trapline.common.channel.record import Gap, Record
from trapline.common.relay.requests import Cursor, Fetch
from trapline.schemas.columns import SchemaError
from trapline.schemas.message import decode_header
from trapline.schemas.registry import BUILT_IN

Item = Record | Gap


class UnknownChannelError(LookupError):
    """A channel that no one writes and no release knows. The text lists those that there are."""


@dataclass
class Subscription(ChannelReader):
    """Reads channels in the order in which their records were appended, whatever partition they stand in.

    What was appended before a `read` comes in that order exactly; of what is appended meanwhile, each partition keeps
    its own. With a filter only the first frame of each record travels, and the others of those that it takes.

    Parameters
    ----------
    only
        Which records are wanted, as far as their headers tell.
    """

    only: Filter = field(default_factory=Filter)
    _waiting: dict[PartitionKey, deque[tuple[int, Item]]] = field(init=False, default_factory=dict)
    _asked_in: dict[PartitionKey, int] = field(init=False, default_factory=dict)
    _round: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.headers_only = self.headers_only or bool(self.only)

    async def read(self, wait_s: float = 1.0) -> list[Item]:
        """Return what came next, merged by time of the append; see `ChannelReader.read`."""
        self._round += 1
        waiting = any(self._waiting.values())
        asked = {(c.channel, c.partition) for c in self._cursors_to_ask()}
        fresh = await super().read(0.0 if waiting else wait_s)
        for item in fresh:
            self._waiting.setdefault(_key(item), deque()).append((self._round, item))
        # Behind a full answer there may be more, also of a partition that is not in it.
        if not self.full:
            self._asked_in |= dict.fromkeys(asked, self._round)
        return await self._wanted(self._in_order())

    async def check(self, *, missing_ok: bool) -> None:
        """Find out whether the channels are there, and may be read.

        Raises
        ------
        RelayRefusedError
            When one may not be read: its partitions are not even shown, and would be waited for in vain.
        UnknownChannelError
            When one has no partition and is none of those that services write; with those that there are.
        """
        await self.discover()
        known = self.there | {schema.channel for schema in BUILT_IN}
        for channel in self.channels:
            if channel not in self.there:
                await self.connection.fetch(Fetch(cursors=[Cursor(channel, "0", 0)]))
            if channel not in known and not missing_ok:
                there = ", ".join(sorted(self.there)) or "none yet"
                close = difflib.get_close_matches(channel, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                where = self.connection.address
                raise UnknownChannelError(f"there is no channel {channel!r} at {where}; there are {there}{hint}")

    def _cursors_to_ask(self) -> list[Cursor]:
        return [cursor for key, cursor in self.cursors.items() if not self._waiting.get(key)]

    def _in_order(self) -> list[Item]:
        """Take what waits in order, as long as no partition can have something older."""
        found: list[Item] = []
        while heads := {key: items[0] for key, items in self._waiting.items() if items}:
            key = min(heads, key=lambda k: (_time(heads[k][1]), k))
            came_in = heads[key][0]
            empty = (k for k in self.cursors if k not in heads)
            if any(self._asked_in.get(k, 0) < came_in for k in empty):
                break
            found.append(self._waiting[key].popleft()[1])
        return found

    async def _wanted(self, items: list[Item]) -> list[Item]:
        if not self.only:
            return items
        return [await self._whole(item) for item in items if isinstance(item, Gap) or self._takes(item)]

    def _takes(self, record: Record) -> bool:
        try:
            header = decode_header(record.frames[0] if record.frames else b"", unknown_ok=True)
        except SchemaError:
            # Whoever decodes it says what is wrong with it.
            return True
        return self.only.takes(header)

    async def _whole(self, item: Item) -> Item:
        if isinstance(item, Gap):
            return item
        place = item.place
        whole = await record_at(self.connection, place)
        return whole or Gap(place.channel, place.partition, place.seq, place.seq + 1, "retention")


def _key(item: Item) -> PartitionKey:
    return (item.place.channel, item.place.partition) if isinstance(item, Record) else (item.channel, item.partition)


def _time(item: Item) -> int:
    """Return when a record was appended; what is gone has no time, and is told at once."""
    return item.t_us if isinstance(item, Record) else 0
