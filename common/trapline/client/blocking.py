"""The client's calls for plain, blocking programs and notebooks: those of asyncio, run by a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from typing import Any, Self, TypeVar

from trapline.client.asynchronous import AsyncMesh
from trapline.common.channel import Start
from trapline.common.security.pair import ClientKeys
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message

T = TypeVar("T")


class Mesh:
    """A connection to a mesh for plain, blocking programs and notebooks. Made by `connect`.

    The same calls as `AsyncMesh`, run by an event loop in a thread.
    """

    def __init__(self, address: str, keys: ClientKeys | None = None) -> None:
        self.address = address
        self._mesh = AsyncMesh(address, keys)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="trapline client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self._mesh.__aenter__())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._call(self._mesh.__aexit__(*exception))
        self._stop_loop()

    def channels(self) -> list[str]:
        """Return the names of the channels that have a partition."""
        return self._call(self._mesh.channels())

    def subscribe(self, *channels: str, start: Start = "latest", gaps: bool = False) -> Iterator[Any]:
        """Yield what is published on some channels, for ever; see `AsyncMesh.subscribe`."""
        stream = self._mesh.subscribe(*channels, start=start, gaps=gaps)
        try:
            while True:
                yield self._call(anext(stream))
        finally:
            # A loop that was left may be collected long after the connection is closed.
            if not self._loop.is_closed():
                self._call(stream.aclose())

    def publish(self, message: Message[Header], *, name: str, channel: str | None = None) -> Place:
        """Publish a message; see `AsyncMesh.publish`."""
        return self._call(self._mesh.publish(message, name=name, channel=channel))

    def _call(self, work: Awaitable[T]) -> T:
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches only this thread: what runs in the other must not go on alone.
            future.cancel()
            raise

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work
