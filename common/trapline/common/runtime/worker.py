"""A worker of a group: lease a record, handle it, append the result, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Callable, Iterable

import msgspec
import structlog

from trapline.common.channel import GroupMember, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.channel.nearby import Nearby
from trapline.common.runtime.context import Backoff, Context, Stopwatch
from trapline.common.runtime.dead_letters import dead_letter
from trapline.common.runtime.hands import Hands, Lot, lots_of
from trapline.common.runtime.hang import HangError, in_thread
from trapline.common.runtime.publishing import publish
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header
from trapline.schemas.message import Message

Handler = Callable[[Record], Iterable[Message[Header]]]

_WAIT_S = 1.0
_LONG = 4.0  # times the usual: a record that takes longer does not keep those that were leased ahead
_SHORTEST_S = 0.25


class Worker:
    """Runs a handler on the records of a group's channels.

    The handler runs in a thread, and keeps nothing between records: another worker may get the next one. What it
    returns is appended and synced before its input is acknowledged; so a death at any time only repeats work, and the
    ids of the repeated output are the same. A handler that hangs ends the process, with an attempt counted.

    The next record is leased ahead. While one takes much longer than usual, what was leased ahead is given back: it
    need not wait, other workers have time for it.

    Parameters
    ----------
    context
        The process.
    handler
        Called with each record.
    channels
        What is read.
    behind
        Those of the channels whose records wait as long as there are others: never more than one of them is finished
        before another's turn, and the thread that handles them leaves the processor to everyone else.
    nearby
        Journals of this host, where it has them: records that are there do not travel.
    """

    def __init__(
        self,
        context: Context,
        handler: Handler,
        channels: tuple[str, ...],
        *,
        behind: tuple[str, ...] = (),
        nearby: Nearby | None = None,
    ) -> None:
        self._context = context
        self._handler = handler
        self._member = GroupMember(context.connection, context.service, context.name, channels)
        self._nearby = nearby
        self._hands = Hands(lots_of(channels, behind))
        self._usual_s = _SHORTEST_S / _LONG

    async def run(self) -> None:
        """Work until told to drain; then finish the record in hand and give back the others.

        Raises
        ------
        HangError
            When a handler hangs. What was done is acknowledged, the rest given back: the process can end.
        """
        self._context.fine()
        works = (*map(self._lease, self._hands.lots), self._extend(), self._acknowledge())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            while (record := await self._next(tasks)) is not None:
                await self._handle(record)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave()

    async def _next(self, tasks: Iterable[asyncio.Task[None]]) -> Record | None:
        """Return the next record; None when draining. A task that ends ends the worker."""
        draining = asyncio.ensure_future(self._context.draining.wait())
        arriving = asyncio.ensure_future(self._hands.next())
        try:
            await asyncio.wait({draining, arriving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return None if draining.done() else arriving.result()
        finally:
            draining.cancel()
            arriving.cancel()

    async def _lease(self, lot: Lot) -> None:
        backoff, near = Backoff(), self._nearby is not None
        while True:
            await lot.short.wait()
            try:
                records = await self._member.lease(lot.at_once, _WAIT_S, channels=lot.channels, headers_only=near)
                self._context.fine()
                backoff.reset()
                for record in records:
                    self._hands.take_up(await self._whole(record))
            except (RelayUnreachableError, RelayRefusedError) as error:
                self._context.trouble(error)
                await asyncio.sleep(backoff.next_s())

    async def _whole(self, record: Record) -> Record:
        """Return a leased record with all its frames, of which the first may have come alone."""
        if self._nearby is None or not _lacks_frames(record):
            return record
        found = await record_at(self._context.connection, record.place, nearby=self._nearby)
        return msgspec.structs.replace(found, attempts=record.attempts) if found else record

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._member.lease_s / 3)
            if self._hands.held:
                handling = [self._hands.handling] if self._hands.handling else []
                self._member.extend(self._hands.held.values(), handling)

    async def _handle(self, record: Record) -> None:
        context, hands = self._context, self._hands
        with structlog.contextvars.bound_contextvars(partition=record.place.partition, seq=record.place.seq):
            hands.handling = record
            # A relay that is away learns it from the next extension.
            with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
                await self._member.begin(record)
            try:
                if record.attempts >= context.config.runtime.max_attempts:
                    messages = [dead_letter(context, record, f"its worker died {record.attempts} times")]
                else:
                    messages = await self._call(record)
                await publish(context, messages)
                hands.done.append(record)
            except HangError as hang:
                await self._failed(record, str(hang))
                raise
            except Exception:  # noqa: BLE001  whatever a record does to a handler, the stream goes on
                await self._failed(record, traceback.format_exc())
            finally:
                hands.handling = None

    async def _call(self, record: Record) -> list[Message[Header]]:
        with Stopwatch(self._context):
            limit_s = self._context.config.runtime.max_runtime_s
            pool = self._hands.lot_of(record).pool
            begun, freeing = time.monotonic(), asyncio.create_task(self._free_others())
            try:
                messages = await in_thread(lambda: list(self._handler(record)), limit_s, pool)
            finally:
                freeing.cancel()
                self._hands.want_more()
        # A slow one alone says little about the next.
        took_s = min(time.monotonic() - begun, _LONG * self._usual_s)
        self._usual_s = max(0.9 * self._usual_s + 0.1 * took_s, _SHORTEST_S / _LONG)
        self._context.counters["handled"] += 1
        return messages

    async def _free_others(self) -> None:
        """Give back what waits, and what is still on its way here, once the record in hand takes long."""
        await asyncio.sleep(max(_LONG * self._usual_s, _SHORTEST_S))
        while True:
            waited = self._hands.put_down()
            self._context.counters["given_back"] += len(waited)
            if waited:
                # What cannot be given back now is not extended either: its lease ends.
                with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
                    await self._member.give_back(waited, failed=False)
            await asyncio.sleep(_SHORTEST_S)

    async def _failed(self, record: Record, text: str) -> None:
        context = self._context
        context.counters["handler_errors"] += 1
        context.log.error("handler failed", attempt=record.attempts + 1, traceback=text)
        context.last_error = text.strip().splitlines()[-1]
        if record.attempts + 1 >= context.config.runtime.max_attempts:
            await publish(context, [dead_letter(context, record, text)])
            self._hands.done.append(record)
            return
        self._hands.let_go([record])
        with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
            await self._member.give_back([record], failed=True)

    async def _acknowledge(self) -> None:
        interval = max(self._context.config.journal.sync_s, 0.005)
        while True:
            await asyncio.sleep(interval)
            await self._flush()

    async def _flush(self) -> None:
        """Sync the outputs, then say that their inputs are done; what cannot be said now is said later."""
        hands = self._hands
        done, hands.done = hands.done, []
        if not done:
            return
        try:
            await self._context.outputs.sync()
            await self._member.ack(done)
        except (RelayUnreachableError, RelayRefusedError) as error:
            self._context.trouble(error)
            hands.done = done + hands.done
        except asyncio.CancelledError:
            hands.done = done + hands.done
            raise
        else:
            hands.let_go(done)

    async def _leave(self) -> None:
        await self._flush()
        with contextlib.suppress(RelayUnreachableError, RelayRefusedError):
            await self._member.leave()


def _lacks_frames(record: Record) -> bool:
    try:
        return len(record.frames) == 1 and bool(record.header.frames)
    except SchemaError:
        # Whoever handles it says what is wrong with it.
        return False
