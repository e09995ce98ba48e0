"""A sink: reads channels, stores batches somewhere, and keeps its read position there, with what it stored."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from trapline.common.channel import ChannelReader, Gap, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.relay.requests import Cursor, Position, Read
from trapline.common.runtime.context import Backoff, Context, Stopwatch
from trapline.common.runtime.dead_letters import dead_letter
from trapline.common.runtime.publishing import publish

T = TypeVar("T")


class Unavailable(Exception):  # noqa: N818  it is a state of the world, not an error of ours
    """The place where batches are stored does not answer now. The text says what is wrong; it is tried again."""


class Store(Protocol):
    """Where a sink puts its records."""

    async def positions(self) -> list[Cursor]:
        """Return the committed read positions."""
        ...

    async def store(self, records: Sequence[Record], positions: Sequence[Cursor]) -> None:
        """Store records and the positions behind them, together or not at all."""
        ...

    async def mended(self, record: Record) -> tuple[Record, str] | None:
        """Return what of a record can be stored that cannot as a whole, and which of its rows were left out, and why.

        None when nothing can. Nothing is stored.
        """
        ...


class Sink:
    """Reads channels into batches and stores them.

    Parameters
    ----------
    context
        The process.
    store
        Where batches go. `Unavailable` is waited for; any other error is the fault of a record, which is then found
        and becomes a dead letter.
    reads, reads_headers
        Channels read whole, and channels of which the headers are enough.
    flush_s, flush_records
        A batch is stored when it is that old or that large.
    reader
        Name under which the relay knows how far it is; by default that of the process.
    """

    def __init__(
        self,
        context: Context,
        store: Store,
        *,
        reads: tuple[str, ...],
        reads_headers: tuple[str, ...],
        flush_s: float,
        flush_records: int,
        reader: str | None = None,
    ) -> None:
        self._context = context
        self._name = reader or context.name
        self._store = store
        self._channels = ((reads, False), (reads_headers, True))
        self._flush_s, self._flush_records = flush_s, flush_records
        self._batch: list[Record] = []
        self._oldest = 0.0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Store until told to drain, then store what was read."""
        positions = await self._patiently(self._store.positions)
        self._safe = {(c.channel, c.partition): c for c in positions}
        self._context.fine()
        readers = [
            asyncio.create_task(self._read(self._reader(channels, headers_only=headers_only)))
            for channels, headers_only in self._channels
        ]
        try:
            while not self._context.draining.is_set():
                await self._wait_for_batch(readers)
                await self._flush()
                self._report()
        finally:
            for task in readers:
                task.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        await self._flush()
        self._report()

    def _reader(self, channels: tuple[str, ...], *, headers_only: bool) -> ChannelReader:
        known = [c for c in self._safe.values() if c.channel in channels]
        return ChannelReader(self._context.connection, channels, positions=known, headers_only=headers_only)

    async def _read(self, reader: ChannelReader) -> None:
        context, backoff = self._context, Backoff()
        while True:
            try:
                items = await reader.read(1.0)
                backoff.reset()
            except (RelayUnreachableError, RelayRefusedError) as error:
                context.trouble(error)
                await asyncio.sleep(backoff.next_s())
                continue
            for item in items:
                if isinstance(item, Gap):
                    context.counters["records_lost"] += item.end_seq - item.first_seq
                    context.log.error("records are gone", gap=str(item))
                else:
                    self._add(item)
            self._note_reading(reader)
            while len(self._batch) >= self._flush_records:
                self._room.clear()
                await self._room.wait()

    def _add(self, record: Record) -> None:
        if not self._batch:
            self._oldest = time.monotonic()
        self._batch.append(record)
        self._arrived.set()

    def _note_reading(self, reader: ChannelReader) -> None:
        for key in reader.cursors:
            stored = self._safe.get(key)
            self._context.reading[key] = (stored.seq if stored else 0, reader.ends.get(key, 0))

    async def _wait_for_batch(self, readers: Sequence[asyncio.Task[None]]) -> None:
        """Return when a batch is due, or when the service shall drain."""
        for task in readers:
            if task.done():
                task.result()
        if not self._batch:
            self._arrived.clear()
            await _first(self._arrived.wait(), self._context.draining.wait(), timeout_s=1.0)
        if self._batch and len(self._batch) < self._flush_records:
            await self._context.pause(max(0.0, self._oldest + self._flush_s - time.monotonic()))

    async def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._room.set()
        if batch:
            await self._store_all(batch)

    async def _store_all(self, batch: list[Record]) -> None:
        """Store a batch; when something in it cannot be stored, find it by halves and put it aside."""
        positions = self._behind(batch)

        async def store() -> None:
            with Stopwatch(self._context):
                await self._store.store(batch, positions)

        try:
            await self._patiently(store)
        except Exception:  # noqa: BLE001  whatever a record does to the store, the stream goes on
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store_all(batch[:middle])
                await self._store_all(batch[middle:])
                return
            await self._store_some(batch[0], positions, traceback.format_exc())
        else:
            self._context.counters["records_stored"] += len(batch)
        self._safe |= {(c.channel, c.partition): c for c in positions}

    async def _store_some(self, record: Record, positions: list[Cursor], why: str) -> None:
        """Put a record aside that cannot be stored, and store what can be of it: a kill between both repeats both."""
        context = self._context
        try:
            mended = await self._patiently(lambda: self._store.mended(record))
        except Exception as error:  # noqa: BLE001  what cannot be mended either is put aside as a whole
            context.log.error("cannot mend a record", place=str(record.place), reason=str(error))  # noqa: TRY400
            mended = None
        text = f"{mended[1]}\nAll other rows of it were stored.\n{why}" if mended else why
        context.log.error("cannot store a record", place=str(record.place), mended=bool(mended), traceback=text)
        await publish(context, [dead_letter(context, record, text)])
        await context.outputs.sync()
        try:
            await self._patiently(lambda: self._store.store([mended[0]] if mended else [], positions))
        except Exception:
            if mended is None:
                raise
            context.log.exception("cannot store what was left of a record", place=str(record.place))
            await self._patiently(lambda: self._store.store([], positions))
        else:
            context.counters["records_mended"] += bool(mended)

    @staticmethod
    def _behind(batch: Sequence[Record]) -> list[Cursor]:
        places = [record.place for record in batch]
        last = {(p.channel, p.partition): Cursor(p.channel, p.partition, p.seq + 1, p.epoch) for p in places}
        return list(last.values())

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the store answers, for as long as that takes."""
        backoff = Backoff()
        while True:
            try:
                result = await call()
            except Unavailable as error:
                self._context.counters["store_unavailable"] += 1
                self._context.trouble(error)
                await asyncio.sleep(backoff.next_s())
            else:
                self._context.fine()
                return result

    def _report(self) -> None:
        reads = [Read(c.channel, c.partition, seq=c.seq, safe=c.seq) for c in self._safe.values()]
        self._context.connection.notify(Position(reader=self._name, reads=reads))


async def _first(*waits: Awaitable[object], timeout_s: float) -> None:
    """Return when the first of some waits is over, or after a time."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
