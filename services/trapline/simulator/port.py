"""One listening port: any number of clients that get whole images, each at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.framing import Parts, size_of

_CHUNK_BYTES = 256 * 1024
"""asyncio copies what the socket does not take at once: this bounds the copy, whatever the size of an image."""


class ServeError(Exception):
    """The simulator cannot serve. The text says where, why, and what would help."""


@dataclass(slots=True)
class Counts:
    """What went out to clients, over all ports."""

    clients: int = 0
    images_sent: int = 0
    bytes_sent: int = 0
    images_skipped: int = 0
    """whole images that a client was too slow for"""
    images_cut: int = 0
    """images, begun or queued, of clients that vanished or did not take them before the end"""


class Client:
    """One connection. Images wait here until the socket takes them; the oldest is skipped when too many wait."""

    def __init__(self, writer: asyncio.StreamWriter, depth: int, counts: Counts) -> None:
        self._writer = writer
        self._depth = depth
        self._counts = counts
        self._waiting: asyncio.Queue[Parts | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._gone = False
        # An image counts as sent when the kernel has all of it, not when a buffer of ours has.
        writer.transport.set_write_buffer_limits(high=0)

    def offer(self, image: Parts) -> None:
        """Queue an image without waiting."""
        if self._waiting.qsize() >= self._depth:
            self._waiting.get_nowait()
            self._counts.images_skipped += 1
        self._waiting.put_nowait(image)

    async def offer_patiently(self, image: Parts) -> None:
        """Queue an image when there is room for it."""
        while self._waiting.qsize() >= self._depth and not self._gone:
            self._taken.clear()
            await self._taken.wait()
        if not self._gone:
            self._waiting.put_nowait(image)

    def end(self) -> None:
        """Close the connection after what is queued."""
        self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Send until the end or until the client is gone; never raises for what a client does."""
        sending = False
        try:
            while (image := await self._waiting.get()) is not None:
                sending = True
                await self._send(image)
                sending = False
                self._counts.images_sent += 1
                self._counts.bytes_sent += size_of(image)
                self._taken.set()
            self._writer.close()
            await self._writer.wait_closed()
        except OSError:
            pass  # the client went away: what it did not get is counted below
        finally:
            self._leave(sending=sending)

    async def _send(self, image: Parts) -> None:
        for part in image:
            view = memoryview(part)
            for start in range(0, len(view), _CHUNK_BYTES):
                self._writer.write(view[start : start + _CHUNK_BYTES])
                await self._writer.drain()

    def _leave(self, *, sending: bool) -> None:
        left = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        self._counts.images_cut += sending + sum(image is not None for image in left)
        self._gone = True
        self._taken.set()
        self._writer.transport.abort()


class BandPort:
    """The port of one band and its clients."""

    def __init__(self, config: SimulatorConfig, counts: Counts) -> None:
        self._depth = config.queue_images
        self._counts = counts
        self._clients: dict[asyncio.Task[None], Client] = {}
        self.address = ""
        self.first_client = asyncio.Event()

    def connected(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a new client. What it sends is never read, so asyncio stops taking it after a few kilobytes."""
        client = Client(writer, self._depth, self._counts)
        task = asyncio.create_task(client.run())
        self._clients[task] = client
        task.add_done_callback(self._clients.pop)
        self._counts.clients += 1
        self.first_client.set()

    def publish(self, image: Parts) -> None:
        """Give an image to every client without waiting for any."""
        for client in self._clients.values():
            client.offer(image)

    async def publish_patiently(self, image: Parts) -> None:
        """Give an image to every client, and wait until each has room for it."""
        await asyncio.gather(*(client.offer_patiently(image) for client in self._clients.values()))

    async def finish(self, drain_s: float) -> None:
        """Let clients take what is queued for them, then close; cut off those that take longer than `drain_s`."""
        for client in self._clients.values():
            client.end()
        if self._clients:
            await asyncio.wait(set(self._clients), timeout=drain_s)
        await self.cut()

    async def cut(self) -> None:
        """Close all connections at once."""
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def listen(config: SimulatorConfig, band: int, counts: Counts) -> AsyncIterator[BandPort]:
    """Listen for the clients of one band; on leaving, the port and its connections are closed.

    Raises
    ------
    ServeError
        When the port cannot be had.
    """
    port = BandPort(config, counts)
    number = config.first_port + band if config.first_port else 0
    try:
        server = await asyncio.start_server(port.connected, config.host, number)
    except (OSError, UnicodeError) as error:  # a host name that cannot be one is a UnicodeError
        reason = getattr(error, "strerror", None) or str(error)
        raise ServeError(
            f"cannot listen on tcp://{config.host}:{number} for band {band}: {reason}; "
            "free it, or choose another host or first_port (0 takes any free port)"
        ) from None
    port.address = _address(server.sockets[0])
    try:
        yield port
    finally:
        server.close()
        await port.cut()


def _address(listening: socket.socket) -> str:
    host, number = listening.getsockname()[:2]
    return f"tcp://[{host}]:{number}" if listening.family == socket.AF_INET6 else f"tcp://{host}:{number}"
