"""A worker of a group: lease a record, handle it, append the result, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from trapline.common.channel import GroupMember, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.runtime.context import Backoff, Context, Stopwatch
from trapline.common.runtime.dead_letters import dead_letter
from trapline.common.runtime.hang import HangError, in_thread
from trapline.common.runtime.publishing import publish
from trapline.schemas.header import Header
from trapline.schemas.message import Message

Handler = Callable[[Record], Iterable[Message[Header]]]

_PREFETCH = 1  # records leased ahead, so that the next one is here when the last is done
_WAIT_S = 1.0


@dataclass
class _Hands:
    """What a worker holds: leased and waiting, in the handler, and done but not yet acknowledged."""

    waiting: asyncio.Queue[Record] = field(default_factory=asyncio.Queue)
    held: dict[tuple[str, str, int], Record] = field(default_factory=dict)
    handling: Record | None = None
    done: list[Record] = field(default_factory=list)

    def take_up(self, record: Record) -> None:
        """Hold a record, unless it is a second copy of one that is held."""
        key = (record.place.channel, record.place.partition, record.place.seq)
        if key not in self.held:
            self.held[key] = record
            self.waiting.put_nowait(record)

    def let_go(self, records: Iterable[Record]) -> None:
        """Hold records no more."""
        for record in records:
            self.held.pop((record.place.channel, record.place.partition, record.place.seq), None)


class Worker:
    """Runs a handler on the records of a group's channels.

    The handler runs in a thread, and keeps nothing between records: another worker may get the next one. What it
    returns is appended and synced before its input is acknowledged; so a death at any time only repeats work, and the
    ids of the repeated output are the same. A handler that hangs ends the process, with an attempt counted.
    """

    def __init__(self, context: Context, handler: Handler, channels: tuple[str, ...]) -> None:
        self._context = context
        self._handler = handler
        self._member = GroupMember(context.connection, context.service, context.name, channels)
        self._hands = _Hands()
        self._room = asyncio.Semaphore(1 + _PREFETCH)

    async def run(self) -> None:
        """Work until told to drain; then finish the record in hand and give back the others.

        Raises
        ------
        HangError
            When a handler hangs. What was done is acknowledged, the rest given back: the process can end.
        """
        self._context.fine()
        tasks = [asyncio.create_task(task) for task in (self._lease(), self._extend(), self._acknowledge())]
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
        arriving = asyncio.ensure_future(self._hands.waiting.get())
        try:
            await asyncio.wait({draining, arriving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return None if draining.done() else arriving.result()
        finally:
            draining.cancel()
            arriving.cancel()

    async def _lease(self) -> None:
        backoff = Backoff()
        while True:
            await self._room.acquire()
            try:
                records = await self._member.lease(1, _WAIT_S)
                self._context.fine()
                backoff.reset()
            except (RelayUnreachableError, RelayRefusedError) as error:
                self._context.trouble(error)
                await asyncio.sleep(backoff.next_s())
                records = []
            for record in records:
                self._hands.take_up(record)
            if not records:
                self._room.release()

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
                self._room.release()

    async def _call(self, record: Record) -> list[Message[Header]]:
        with Stopwatch(self._context):
            limit_s = self._context.config.runtime.max_runtime_s
            messages = await in_thread(lambda: list(self._handler(record)), limit_s)
        self._context.counters["handled"] += 1
        return messages

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
