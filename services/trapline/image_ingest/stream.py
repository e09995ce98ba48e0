"""A telescope socket, for ever: connect, receive images, connect again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from trapline.image_ingest.cards import one_line
from trapline.image_ingest.config import IngestConfig, StreamConfig
from trapline.image_ingest.events import Event, StreamCounters
from trapline.image_ingest.framing import StreamParser

# A peer that vanished without a word is noticed after 40 s, although silence is normal.
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


@dataclass(slots=True)
class StreamState:
    """What is known of one stream, for status and metrics."""

    counters: StreamCounters = field(default_factory=StreamCounters)
    connected: bool = False
    connections: int = 0
    failures: int = 0
    """connections that could not be made, or broke"""
    timeouts: int = 0
    """connections that fell silent in the middle of an image"""
    last_error: str = ""


Say = Callable[[str], None]
"""Takes a line for the log."""


async def read_stream(
    stream: StreamConfig, config: IngestConfig, state: StreamState, say: Say = lambda _: None
) -> AsyncGenerator[Event]:
    """Yield what comes over a telescope's socket; a connection that broke, or was closed, is made again.

    Pixels are received into the arrays that are yielded. While the consumer is busy nothing is read, and the imager
    notices. Silence between images is normal; in the middle of one it ends the connection after
    ``mid_image_timeout_s``. Cancel the task to stop. With ``reconnect = false`` an orderly close is the end.

    `state` counts; `say` is called with a line when a connection was made, could not be made, or ended.
    """
    pause_s = config.reconnect_min_s
    while True:
        images = state.counters.images
        try:
            with contextlib.closing(await _connect(stream, config)) as peer:
                state.connected, state.connections = True, state.connections + 1
                say(f"{stream.address}: connected")
                async with contextlib.aclosing(_receive(peer, stream, config, state)) as events:
                    async for event in events:
                        yield event
            if not stream.reconnect:
                return
            error = "the imager closed the connection"
        except OSError as problem:
            state.failures += 1
            error = one_line(problem)
        finally:
            state.connected = False
        state.last_error = f"{stream.address}: {error}"
        # Peers that accept and close at once are left in peace as well: only images count as success.
        pause_s = config.reconnect_min_s if state.counters.images > images else pause_s
        say(f"{state.last_error}; connecting again in {pause_s:g} s")
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, config.reconnect_max_s)


async def _connect(stream: StreamConfig, config: IngestConfig) -> socket.socket:
    loop = asyncio.get_running_loop()
    host, port = stream.endpoint
    failure = OSError(f"{host} has no address")
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                try:
                    return await _connect_to(socket.socket(family, kind, protocol), address)
                except OSError as error:
                    failure = error
    except TimeoutError:
        raise OSError(f"no connection within {config.connect_timeout_s:g} s") from None
    except UnicodeError:
        raise OSError(f"{host!r} is no host name") from None
    raise failure


async def _connect_to(peer: socket.socket, address: Any) -> socket.socket:
    try:
        peer.setblocking(False)
        _keep_alive(peer)
        await asyncio.get_running_loop().sock_connect(peer, address)
    except BaseException:
        peer.close()
        raise
    return peer


def _keep_alive(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _receive(
    peer: socket.socket, stream: StreamConfig, config: IngestConfig, state: StreamState
) -> AsyncGenerator[Event]:
    loop = asyncio.get_running_loop()
    parser = StreamParser(pixel_order=stream.pixel_order, limit_bytes=config.max_image_bytes, counters=state.counters)
    failure: OSError | None = None
    while True:
        try:
            async with asyncio.timeout(config.mid_image_timeout_s if parser.mid_image else None):
                count = await loop.sock_recv_into(peer, parser.wanted())
        except TimeoutError:
            state.timeouts += 1
            failure = OSError(f"silent for {config.mid_image_timeout_s:g} s in the middle of an image")
            break
        except OSError as error:
            failure = error
            break
        if not count:
            break
        for event in parser.received(count):
            yield event
    for event in parser.end():
        yield event
    if failure is not None:
        raise failure
