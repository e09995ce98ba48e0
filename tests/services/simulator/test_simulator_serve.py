"""Real sockets: clients that are quick, slow, rude or gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
from trapline.simulator.serve import ServeReport, serve

ReadStream = Callable[[bytes], list[Any]]

pytestmark = pytest.mark.timeout(30)


class Serving:
    """A running simulator: where it listens, how to stop it, and what it reports."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.stop = asyncio.Event()
        self._addresses: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(serve(config, self._addresses.set_result, self.stop))

    async def ports(self) -> list[int]:
        either: set[asyncio.Future[Any]] = {self._addresses, self.task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._addresses.done():
            await self.task
        matches = [re.fullmatch(r"tcp://127\.0\.0\.1:(\d+)", address) for address in self._addresses.result()]
        return [int(match[1]) for match in matches if match]

    async def report(self) -> ServeReport:
        return await asyncio.wait_for(asyncio.shield(self.task), 20)


@contextlib.asynccontextmanager
async def serving(config: SimulatorConfig) -> AsyncIterator[Serving]:
    running = Serving(config)
    try:
        yield running
    finally:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)


async def everything(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read(-1)
    finally:
        writer.close()


def slow_socket(port: int) -> socket.socket:
    """A connection of which little fits into the buffers between us and the simulator."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


async def read_rest(connection: socket.socket) -> bytes:
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        return await reader.read(-1)
    finally:
        writer.close()


def pixels_of(path: Path) -> Any:
    return fits.getdata(path)


def frame_of(image: Any) -> int:
    """Number of the frame of an image that was taken at one frame per second from 2025-01-01 00:00 on."""
    minute, second = image.cards["DATE-OBS"][14:16], image.cards["DATE-OBS"][17:]
    return int(minute) * 60 + round(float(second))


@pytest.fixture
def config(small: SimulatorConfig) -> SimulatorConfig:
    """As fast as clients take images, on free ports, at known times."""
    changes = {"first_port": 0, "realtime": False, "frames": 6, "t_start": datetime(2025, 1, 1, tzinfo=UTC)}
    return small.model_copy(update=changes)


async def test_every_client_gets_every_image_of_its_band(config: SimulatorConfig, read_stream: ReadStream) -> None:
    async with serving(config) as simulator:
        first, second = await simulator.ports()
        assert first != second
        # Both clients of the first band are there before the clock starts, which waits for the second band.
        streams = await asyncio.gather(everything(first), everything(first), everything(second))
        report = await simulator.report()
    for band, stream in zip((0, 0, 1), streams, strict=True):
        images = read_stream(stream)
        assert [frame_of(image) for image in images] == list(range(6))
        for frame, image in enumerate(images):
            assert image.cards["RESTFRQ"] == str(config.bands[band].freq_hz)
            assert np.array_equal(image.raw.reshape(120, 160), render(config, band, frame).pixels)
    assert (report.frames, report.clients, report.images_sent) == (6, 3, 18)
    assert report.bytes_sent == sum(map(len, streams))
    assert (report.images_skipped, report.images_cut) == (0, 0)
    assert report.t_start_us == 1_735_689_600_000_000


async def test_a_slow_client_skips_whole_images_and_delays_nobody(
    config: SimulatorConfig, read_stream: ReadStream
) -> None:
    frames = 60
    changes = {"nx": 320, "ny": 256, "realtime": True, "cadence_s": 0.025, "frames": frames, "queue_images": 4}
    async with serving(config.model_copy(update=changes)) as simulator:
        first, second = await simulator.ports()
        slow = slow_socket(first)
        quick = await asyncio.gather(everything(first), everything(second))
        assert not simulator.task.done(), "the slow client still has images to come"
        late = await read_rest(slow)
        report = await simulator.report()

    def number(image: Any) -> int:
        return round(float(image.cards["DATE-OBS"][17:]) / 0.025)

    for stream in quick:
        assert [number(image) for image in read_stream(stream)] == list(range(frames))
    received = [number(image) for image in read_stream(late)]
    assert received[0] == 0
    assert received[-4:] == list(range(frames - 4, frames)), "the newest wait, the oldest are skipped"
    assert received == sorted(set(received))
    assert report.images_skipped == frames - len(received) > 0
    assert report.images_sent == 2 * frames + len(received)
    assert report.images_cut == 0


async def test_without_the_clock_a_slow_client_skips_nothing(config: SimulatorConfig, read_stream: ReadStream) -> None:
    config = config.model_copy(
        update={"nx": 512, "ny": 512, "frames": 40, "queue_images": 2, "bands": config.bands[:1]}
    )
    async with serving(config) as simulator:
        (port,) = await simulator.ports()
        images = read_stream(await read_rest(slow_socket(port)))
        report = await simulator.report()
    assert [frame_of(image) for image in images] == list(range(40))
    assert (report.images_sent, report.images_skipped) == (40, 0)


async def test_a_client_that_never_reads_is_cut_off_at_the_end(config: SimulatorConfig) -> None:
    changes = {"nx": 512, "ny": 512, "realtime": True, "cadence_s": 0.02, "frames": 30, "drain_s": 0.1}
    async with serving(config.model_copy(update=changes)) as simulator:
        first, second = await simulator.ports()
        with contextlib.closing(slow_socket(first)):
            await everything(second)
            report = await simulator.report()
    assert report.images_cut > 0
    assert report.images_sent + report.images_skipped + report.images_cut == 60


async def test_rude_clients_harm_nobody(config: SimulatorConfig, read_stream: ReadStream) -> None:
    async with serving(config.model_copy(update={"frames": 30})) as simulator:
        first, second = await simulator.ports()
        vanished = slow_socket(first)
        vanished.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        vanished.close()  # with a reset
        _, garbage = await asyncio.open_connection("127.0.0.1", first)
        garbage.write(b"GET / HTTP/1.1\r\n\r\n" * 10_000)
        reader, closed_half = await asyncio.open_connection("127.0.0.1", first)
        closed_half.write_eof()
        half, *streams = await asyncio.gather(reader.read(-1), everything(first), everything(second))
        garbage.transport.abort()
        closed_half.close()
        report = await simulator.report()
    assert [len(read_stream(stream)) for stream in (half, *streams)] == [30, 30, 30]
    assert report.clients == 5
    assert report.frames == 30


async def test_a_late_client_starts_with_a_whole_image(config: SimulatorConfig, read_stream: ReadStream) -> None:
    changes = {"realtime": True, "cadence_s": 0.02, "frames": 50}
    async with serving(config.model_copy(update=changes)) as simulator:
        first, second = await simulator.ports()
        reader, writer = await asyncio.open_connection("127.0.0.1", first)
        early = asyncio.create_task(everything(second))
        await reader.readexactly(3 * (512 + 2880 + 160 * 120 * 4))
        images = read_stream(await everything(first))
        await early
        writer.close()
    assert 0 < len(images) <= 47
    assert round(float(images[-1].cards["DATE-OBS"][17:]) / 0.02) == 49


async def test_stop_ends_between_images(config: SimulatorConfig, read_stream: ReadStream) -> None:
    async with serving(config.model_copy(update={"frames": None})) as simulator:
        first, second = await simulator.ports()
        reader, writer = await asyncio.open_connection("127.0.0.1", first)
        other = asyncio.create_task(everything(second))
        head = await reader.readexactly(100_000)
        simulator.stop.set()
        images = read_stream(head + await reader.read(-1))
        report = await simulator.report()
        writer.close()
    assert [frame_of(image) for image in images] == list(range(len(images)))
    assert len(images) >= report.frames >= 1
    assert report.images_sent == len(images) + len(read_stream(await other))
    assert report.images_cut == 0


async def test_stop_before_anyone_came(config: SimulatorConfig) -> None:
    async with serving(config) as simulator:
        await simulator.ports()
        simulator.stop.set()
        report = await simulator.report()
    assert (report.frames, report.clients, report.images_sent) == (0, 0, 0)


async def test_nobody_need_come(config: SimulatorConfig) -> None:
    async with serving(config.model_copy(update={"wait_for_clients": False})) as simulator:
        report = await simulator.report()
    assert (report.frames, report.clients, report.images_sent) == (6, 0, 0)


async def test_images_leave_when_their_exposure_ends(config: SimulatorConfig, read_stream: ReadStream) -> None:
    changes = {"realtime": True, "cadence_s": 0.05, "frames": 8, "t_start": None}
    before = datetime.now(UTC)
    async with serving(config.model_copy(update=changes)) as simulator:
        streams = await asyncio.gather(*map(everything, await simulator.ports()))
        after = datetime.now(UTC)
        report = await simulator.report()
    for stream in streams:
        times = [datetime.fromisoformat(image.cards["DATE-OBS"] + "+00:00") for image in read_stream(stream)]
        assert {(b - a).total_seconds() for a, b in pairwise(times)} == {0.05}
        assert before <= times[0]
        assert (after - times[0]).total_seconds() >= 8 * 0.05
        assert round(times[0].timestamp() * 1e6) == report.t_start_us


async def test_frames_that_are_not_ready_are_counted_and_sent(config: SimulatorConfig, read_stream: ReadStream) -> None:
    changes = {"realtime": True, "cadence_s": 0.001, "frames": 20, "queue_images": 20}
    async with serving(config.model_copy(update=changes)) as simulator:
        streams = await asyncio.gather(*map(everything, await simulator.ports()))
        report = await simulator.report()
    assert 0 < report.frames_late <= 20
    assert [len(read_stream(stream)) for stream in streams] == [20, 20]


async def test_the_truth_is_recorded_as_it_is_served(
    config: SimulatorConfig, read_stream: ReadStream, tmp_path: Path
) -> None:
    config = config.model_copy(update={"output": tmp_path / "night", "save_images": True})
    async with serving(config) as simulator:
        streams = await asyncio.gather(*map(everything, await simulator.ports()))
        await simulator.report()
    lines = [json.loads(line) for line in (tmp_path / "night" / "truth.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["band"]) for line in lines] == [(k, b) for k in range(6) for b in (0, 1)]
    for band, stream in enumerate(streams):
        for frame, image in enumerate(read_stream(stream)):
            saved = pixels_of(tmp_path / "night" / f"frame{frame:06d}-band{band:02d}.fits")
            assert np.array_equal(saved, image.raw.reshape(120, 160))
    assert "catalogue.ecsv" in {path.name for path in (tmp_path / "night").iterdir()}
    assert not list((tmp_path / "night").glob("*.part"))


async def test_cancelling_closes_everything(config: SimulatorConfig) -> None:
    async with serving(config.model_copy(update={"frames": None})) as simulator:
        first, second = await simulator.ports()
        readers = [(await asyncio.open_connection("127.0.0.1", port)) for port in (first, second)]
        await readers[0][0].readexactly(100)
        simulator.task.cancel()
        await asyncio.gather(simulator.task, return_exceptions=True)
        for reader, writer in readers:
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(-1), 10)
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", first)
