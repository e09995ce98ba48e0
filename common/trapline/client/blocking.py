"""The client's calls for plain, blocking programs and notebooks: those of asyncio, run by a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Self, TypeVar

from trapline.client.asynchronous import AsyncMesh
from trapline.common.channel import Connection, Start
from trapline.common.channel.event import Event
from trapline.common.channel.filters import Cone, Names
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message

T = TypeVar("T")

_CALL = "a call of the client"
_AWAKE_S = 0.5  # Ctrl-C may reach another thread: this one hears of it when it wakes, and a relay may be away for ever


class Mesh:
    """A connection to a mesh for plain, blocking programs and notebooks. Made by `connect`.

    The same calls as `AsyncMesh`, run by an event loop in a thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._mesh = AsyncMesh(connection)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="trapline client", daemon=True)
        self._calls = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._closed = False

    @property
    def address(self) -> str:
        """Where the relay is."""
        return self._mesh.address

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._mesh.__aenter__())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            # Another thread may wait for a record: it hears that the connection is gone.
            self._call(_end_others())
            self._call(self._mesh.__aexit__(*exception))
        finally:
            self._stop_loop()

    def channels(self) -> list[str]:
        """Return the names of the channels that have a partition."""
        return self._call(self._mesh.channels())

    def subscribe(
        self,
        *channels: str,
        start: Start = "latest",
        name: str | None = None,
        pin: bool = False,
        gaps: bool = False,
        band: Names = None,
        kind: Names = None,
        region: Cone | None = None,
        missing_ok: bool = False,
    ) -> Iterator[Any]:
        """Yield what is published on some channels, for ever; see `AsyncMesh.subscribe`."""
        stream = self._mesh.subscribe(
            *channels,
            start=start,
            name=name,
            pin=pin,
            gaps=gaps,
            band=band,
            kind=kind,
            region=region,
            missing_ok=missing_ok,
        )
        return self._each(stream)

    def work(self, group: str, *channels: str, max_attempts: int = 3) -> Iterator[Any]:
        """Yield records for ever that no other worker of a group has; see `AsyncMesh.work`.

        Their leases are extended by the thread of this client, however long the loop's body takes.
        """
        return self._each(self._mesh.work(group, *channels, max_attempts=max_attempts))

    def lease(self, group: str, *channels: str, count: int = 1, wait_s: float = 5.0) -> list[Event]:
        """Return records that no other worker of a group has; see `AsyncMesh.lease`."""
        return self._call(self._mesh.lease(group, *channels, count=count, wait_s=wait_s))

    def done(self, *events: Event) -> None:
        """Say that leased records are done; see `AsyncMesh.done`."""
        self._call(self._mesh.done(*events))

    def give_back(self, *events: Event, failed: bool = False) -> None:
        """Give leased records to another worker; see `AsyncMesh.give_back`."""
        self._call(self._mesh.give_back(*events, failed=failed))

    def _each(self, stream: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self._call(anext(stream))
        finally:
            # A loop that was left may be collected long after the connection is closed.
            if not self._closed:
                self._call(stream.aclose())

    def publish(
        self, message: Message[Header], *, name: str, channel: str | None = None, patience_s: float = 30.0
    ) -> Place:
        """Publish a message; see `AsyncMesh.publish`."""
        return self._call(self._mesh.publish(message, name=name, channel=channel, patience_s=patience_s))

    def _call(self, work: Awaitable[T]) -> T:
        with self._calls:
            if self._closed:
                if isinstance(work, Coroutine):
                    work.close()
                raise CancelledError(f"the connection to {self.address} is closed")
            future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
            self._waiting.add(future)
        try:
            return _result(future)
        except BaseException:
            # Ctrl-C reaches only this thread: what runs in the other must not go on alone.
            future.cancel()
            raise
        finally:
            self._waiting.discard(future)

    def _stop_loop(self) -> None:
        with self._calls:
            # What another thread asks from here on would never be answered.
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for future in list(self._waiting):
            future.cancel()
        self._loop.close()


def _result(future: Future[T]) -> T:
    """Return what a call returns, or raise what it raises."""
    while True:
        try:
            return future.result(_AWAKE_S)
        except TimeoutError:
            if future.done():
                return future.result()


async def _end_others() -> None:
    own = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not own and task.get_name() == _CALL]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _awaited(work: Awaitable[T]) -> T:
    # Tasks of the connection itself have other names: they end with it.
    if task := asyncio.current_task():
        task.set_name(_CALL)
    return await work
