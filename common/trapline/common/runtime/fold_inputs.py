"""What a fold reads: several channels at once, handed to its order by the thread that steps."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from trapline.common.channel import ChannelReader, Gap, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.order import Consumed, Order, PartitionKey
from trapline.schemas.header import Place

_WAIT_S = 1.0
_BUFFERED = 5000  # inputs read ahead of the one that is waited for


class _Seen(NamedTuple):
    """Follows the items of a read: which partitions were read, and whether to their ends."""

    keys: tuple[PartitionKey, ...]
    caught_up: bool


class FoldInputs:
    """Reads channels in tasks of the loop, and offers what came to an order in the stepping thread.

    Parameters
    ----------
    order
        Takes the inputs; it says where to begin.
    noted
        Inputs that were noted before as impossible to take.
    """

    def __init__(self, context: Context, order: Order, noted: Iterable[Place]) -> None:
        self._context = context
        self._order = order
        self._noted = set(noted)
        self._inbox: deque[Record | Gap | _Seen] = deque()
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting = 0
        self.refused: deque[tuple[Record, str]] = deque()
        """inputs that are no message, with the traceback: to be noted"""

    def start(self, channels: tuple[str, ...], *, headers_only: bool) -> None:
        """Begin to read some channels, where the order's progress says."""
        if not channels:
            return
        positions = [
            Cursor(channel, partition, seq=done.floor)
            for (channel, partition), done in self._order.progress().items()
            if channel in channels
        ]
        reader = ChannelReader(self._context.connection, channels, positions=positions, headers_only=headers_only)
        self._tasks.append(asyncio.create_task(self._read(reader), name=f"read {', '.join(channels)}"))

    async def stop(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait(self, seconds: float) -> None:
        """Return when something has come, or after a while; raise what ended a reader."""
        for task in self._tasks:
            if task.done():
                task.result()
        self._arrived.clear()
        if self._inbox:
            # It came while the thread that steps was looking elsewhere.
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()

    def offer_all(self) -> None:
        """Offer everything that came to the order. Called by the thread that steps, and by no other."""
        while self._inbox:
            item = self._inbox.popleft()
            if isinstance(item, Record):
                self._offer(item)
            elif isinstance(item, Gap):
                self._note_gap(item)
            else:
                self._order.seen(item.keys, caught_up=item.caught_up)
        self._waiting = self._order.buffered()

    def _offer(self, record: Record) -> None:
        """Offer an input; one that is no message is passed over, and noted once."""
        try:
            self._order.offer(record)
        except Exception:  # noqa: BLE001  whatever a record does to a fold, the stream goes on
            place = record.place
            done = self._order.progress().setdefault((place.channel, place.partition), Consumed(place.seq))
            done.add(place.seq)
            if place not in self._noted:
                self._noted.add(place)
                self.refused.append((record, traceback.format_exc()))

    def _note_gap(self, gap: Gap) -> None:
        self._context.counters["records_lost"] += gap.end_seq - gap.first_seq
        self._context.log.error("records are gone", gap=str(gap))
        done = self._order.progress().get((gap.channel, gap.partition))
        if done and gap.reason != "lost":
            done.skip_to(gap.end_seq)

    async def _read(self, reader: ChannelReader) -> None:
        context, backoff = self._context, Backoff()
        while True:
            if self._waiting + len(self._inbox) > _BUFFERED:
                await asyncio.sleep(0.05)
                continue
            try:
                items = await reader.read(_WAIT_S)
                context.fine()
                backoff.reset()
            except (RelayUnreachableError, RelayRefusedError) as error:
                context.trouble(error)
                await asyncio.sleep(backoff.next_s())
                continue
            self._inbox.extend(items)
            self._inbox.append(_Seen(tuple(reader.cursors), reader.caught_up))
            for key, cursor in reader.cursors.items():
                context.reading[key] = (cursor.seq, reader.ends.get(key, 0))
            self._arrived.set()
