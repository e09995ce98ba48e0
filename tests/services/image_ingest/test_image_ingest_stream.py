from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from ingest_inputs import bare, frame, images, noise, reasons, settings
from trapline.image_ingest.config import IngestConfig, StreamConfig
from trapline.image_ingest.events import Event, StreamImage
from trapline.image_ingest.reading import describe_event
from trapline.image_ingest.stream import StreamState, read_stream

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

QUICK: dict[str, Any] = {"mid_image_timeout_s": 0.2, "reconnect_min_s": 0.01, "reconnect_max_s": 0.02}
DEADLINE_S = 20


@contextlib.asynccontextmanager
async def imager(*connections: Behaviour, port: int = 0) -> AsyncIterator[str]:
    """Serve one behaviour per connection, the last for all further ones; yield the address."""
    served = 0
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        behave = connections[min(served, len(connections) - 1)]
        served += 1
        writers.append(writer)
        with contextlib.suppress(OSError):
            await behave(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        # A connection that was accepted a moment ago still has to meet its handler.
        for _ in range(10):
            await asyncio.sleep(0)
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def sends(data: bytes, *, then_close: bool, chunk: int = 1 << 20) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), chunk):
            writer.write(data[start : start + chunk])
            await writer.drain()
        if then_close:
            writer.close()
        else:
            await reader.read()

    return behave


async def receive(
    address: str, count: int, state: StreamState, say: Callable[[str], None] = lambda _: None, **config: Any
) -> list[Event]:
    stream = StreamConfig(address=address, pixel_order=config.pop("pixel_order", "fits"))
    events: list[Event] = []
    async with (
        asyncio.timeout(DEADLINE_S),
        contextlib.aclosing(read_stream(stream, IngestConfig(**QUICK | config), state, say)) as source,
    ):
        async for event in source:
            events.append(event)
            if len(events) == count:
                break
    return events


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
@pytest.mark.parametrize("order", ["fits", "column-major"])
async def test_images_come_over_a_socket(order: str, chunk: int) -> None:
    sent = [noise((100, 150), 1), noise((150, 100), 2), noise((30, 20), 3)]
    data = frame(sent[0], order=order) + bare(sent[1]) + frame(sent[2], order=order)
    state = StreamState()
    async with imager(sends(data, then_close=False, chunk=chunk)) as address:
        events = await receive(address, 3, state, pixel_order=order)
    assert all(np.array_equal(a, b) for a, b in zip(images(events), sent, strict=True))
    assert (state.counters.received_bytes, state.counters.images, state.connections) == (len(data), 3, 1)


async def test_a_connection_that_ends_is_made_again() -> None:
    sent = [noise((20, 30), k) for k in range(3)]
    state, said = StreamState(), list[str]()
    behaviours = [sends(frame(one), then_close=True) for one in sent]
    async with imager(*behaviours) as address:
        events = await receive(address, 3, state, said.append)
    assert np.array_equal(images(events), sent)
    assert state.connections == 3
    assert [event.position for event in events] == [0, 0, 0]
    assert sum("closed the connection; connecting again" in line for line in said) == 2


async def test_without_reconnecting_an_orderly_close_is_the_end() -> None:
    sent = noise((20, 30))
    state = StreamState()
    async with imager(sends(frame(sent), then_close=True)) as address:
        source = read_stream(StreamConfig(address=address, reconnect=False), IngestConfig(**QUICK), state)
        async with asyncio.timeout(DEADLINE_S):
            events = [event async for event in source]
    assert np.array_equal(images(events), [sent])
    assert (state.connections, state.connected) == (1, False)


async def test_half_an_image_is_said_and_the_next_connection_read() -> None:
    good = noise((20, 30))
    state = StreamState()
    half = frame(noise((50, 60)))[:5000]
    async with imager(sends(half, then_close=True), sends(frame(good), then_close=False)) as address:
        events = await receive(address, 2, state)
    assert reasons(events) == ["the stream ended after 5000 bytes of an image"]
    assert np.array_equal(images(events), [good])
    assert state.counters.truncated == 1


async def test_silence_in_mid_image_ends_the_connection() -> None:
    good = noise((20, 30))
    state, said = StreamState(), list[str]()
    half = frame(noise((50, 60)))[:5000]
    async with imager(sends(half, then_close=False), sends(frame(good), then_close=False)) as address:
        events = await receive(address, 2, state, said.append)
    assert len(reasons(events)) == 1
    assert np.array_equal(images(events), [good])
    assert state.timeouts == 1
    assert any("silent for 0.2 s in the middle of an image" in line for line in said)


async def test_silence_between_images_is_normal() -> None:
    sent = [noise((20, 30), 1), noise((20, 30), 2)]
    state = StreamState()
    waited = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Bare FITS, with its padding still to come: nothing is missing of the image.
        writer.write(bare(sent[0])[:-100])
        with contextlib.suppress(TimeoutError):
            # Three times the time-out of mid-image; the reader must not close the connection meanwhile.
            await asyncio.wait_for(reader.read(), 0.6)
            raise AssertionError("the reader hung up")
        waited.set()
        writer.write(bytes(100) + frame(sent[1]))
        await reader.read()

    async with imager(behave) as address:
        events = await receive(address, 2, state)
    assert waited.is_set()
    assert np.array_equal(images(events), sent)
    assert (state.connections, state.timeouts, state.failures) == (1, 0, 0)


async def test_a_port_without_an_imager_is_tried_until_there_is_one() -> None:
    good = noise((20, 30))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    state, said = StreamState(), asyncio.Queue[str]()
    reading = asyncio.create_task(receive(f"tcp://127.0.0.1:{port}", 1, state, said.put_nowait))
    async with asyncio.timeout(DEADLINE_S):
        lines = [await said.get() for _ in range(3)]
    async with imager(sends(frame(good), then_close=False), port=port):
        events = await reading
    assert np.array_equal(images(events), [good])
    assert state.failures >= 3
    assert all(f"tcp://127.0.0.1:{port}: " in line and "connecting again in" in line for line in lines)


async def test_pauses_grow_up_to_their_limit_and_start_anew_after_an_image() -> None:
    state, said = StreamState(), list[str]()
    nothing, image = sends(b"", then_close=True), sends(frame(noise((4, 5))), then_close=True)
    async with imager(nothing, nothing, nothing, nothing, image, image) as address:
        await receive(address, 2, state, said.append, reconnect_min_s=0.001, reconnect_max_s=0.004)
    pauses = [line.rpartition(" in ")[2] for line in said if "connecting again" in line]
    assert pauses == ["0.001 s", "0.002 s", "0.004 s", "0.004 s", "0.001 s"]


async def test_a_name_that_does_not_exist_is_a_failure_and_no_crash() -> None:
    for host in ("no-such-host.invalid", "x" * 80):
        state, said = StreamState(), asyncio.Queue[str]()
        reading = asyncio.create_task(receive(f"tcp://{host}:6666", 1, state, said.put_nowait))
        async with asyncio.timeout(DEADLINE_S):
            assert host in await said.get()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        assert state.failures >= 1
        assert host in state.last_error


async def test_garbage_costs_only_itself() -> None:
    good = noise((20, 30))
    state = StreamState()
    garbage = np.random.default_rng(1).bytes(1_000_000)
    async with imager(sends(garbage + frame(good), then_close=False)) as address:
        events = await receive(address, 1, state)
    assert np.array_equal(images(events), [good])
    assert (state.counters.skipped_bytes, state.connections) == (len(garbage), 1)


async def test_a_slow_consumer_stops_the_imager_and_loses_nothing() -> None:
    sent = [noise((512, 512), k) for k in range(40)]
    state = StreamState()
    data = b"".join(frame(one) for one in sent)
    all_sent = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        all_sent.set()
        await reader.read()

    async with imager(behave) as address:
        source = read_stream(StreamConfig(address=address), IngestConfig(**QUICK), state)
        async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(source):
            first = await anext(source)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(all_sent.wait(), 0.3)
            # The rest waits in the sockets' buffers and with the imager, not here.
            assert state.counters.received_bytes < 2 * len(frame(sent[0]))
            rest = [await anext(source) for _ in sent[1:]]
    assert all(np.array_equal(a, b) for a, b in zip(images([first, *rest]), sent, strict=True))


async def test_events_become_messages() -> None:
    good = noise((32, 40))
    data = frame(noise((9, 9)))[:3000] + frame(good)
    state, known = StreamState(), settings()
    async with imager(sends(data, then_close=False)) as address:
        events = await receive(address, 2, state)
        messages = [describe_event(event, StreamConfig(address=address), known) for event in events]
    broken, whole = (message.header.image for message in messages)
    assert broken is not None
    assert whole is not None
    assert broken.quality.reasons[0].check == "unreadable"
    assert whole.quality.rejected is False
    assert whole.origin == f"{address}@3000"
    assert isinstance(events[1], StreamImage)
    assert np.shares_memory(messages[1].arrays["pixels"], events[1].pixels)
