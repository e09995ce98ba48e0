"""The simulated telescope at work: images of all bands at each tick of the clock, to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import Rendered, render, truth_of
from trapline.simulator.fitsfile import TruthRecorder, image_path, write_image
from trapline.simulator.framing import Parts, encode
from trapline.simulator.port import BandPort, Counts, ServeError, listen

__all__ = ["ServeError", "ServeReport", "serve"]


@dataclass(frozen=True, slots=True)
class ServeReport:
    """What was served when it ended."""

    frames: int
    """frames published; each has an image per band"""
    frames_late: int
    """frames that were not ready when the clock said so"""
    t_start_us: int
    """start of frame 0, since 1970 UTC"""
    clients: int
    images_sent: int
    bytes_sent: int
    images_skipped: int
    """whole images that clients were too slow for"""
    images_cut: int
    """images that clients did not get because they vanished, or did not take them before the end"""


async def serve(config: SimulatorConfig, announce: Callable[[list[str]], None], stop: asyncio.Event) -> ServeReport:
    """Serve images until `frames` have been published or `stop` is set, then let clients finish and close.

    Frame k is published when its exposure ends, k + 1 cadences after the clock started, in all bands at once. An
    explicit `t_start` in the configuration is what headers say; without one frame 0 starts when the clock does.

    Parameters
    ----------
    config
        What to simulate, where to listen, and what to record.
    announce
        Called once with the addresses of the bands, in their order, when all ports listen.
    stop
        Ends serving after the frame at hand; clients still get what is queued for them, within `drain_s`.

    Raises
    ------
    ServeError
        When a port cannot be had, or the truth cannot be recorded.
    NoRoomError
        When the field does not hold the sources that the configuration asks for.
    """
    await asyncio.to_thread(_check, config)
    counts = Counts()
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listen(config, band, counts)) for band in range(len(config.bands))]
        announce([port.address for port in ports])
        if config.wait_for_clients:
            await _unless(stop, _all_have_clients(ports))
        config = _started(config)
        recorder = stack.enter_context(_recorder(config, config.output)) if config.output else None
        player = _Player(config, ports, recorder)
        await player.play(stop)
        await asyncio.gather(*(port.finish(config.drain_s) for port in ports))
    return ServeReport(
        frames=player.frames, frames_late=player.frames_late, t_start_us=config.t_start_us, **asdict(counts)
    )


class _Player:
    """Makes frames one after the other and publishes them by the clock."""

    def __init__(self, config: SimulatorConfig, ports: list[BandPort], recorder: TruthRecorder | None) -> None:
        self._config = config
        self._ports = ports
        self._recorder = recorder
        self.frames = 0
        self.frames_late = 0

    async def play(self, stop: asyncio.Event) -> None:
        """Publish frames until all are out or `stop` is set."""
        begun_s = asyncio.get_running_loop().time()
        while not stop.is_set() and self.frames != self._config.frames:
            images = await self._render()
            if not await self._publish(images, begun_s, stop):
                break
            self.frames += 1
            if self._recorder is not None:
                await asyncio.to_thread(self._record, self._recorder, images)

    async def _render(self) -> list[_Image]:
        # In threads, so that sockets are served meanwhile; numpy and scipy let go of the interpreter.
        bands = range(len(self._config.bands))
        return await asyncio.gather(*(asyncio.to_thread(_image, self._config, band, self.frames) for band in bands))

    async def _publish(self, images: list[_Image], begun_s: float, stop: asyncio.Event) -> bool:
        pairs = list(zip(self._ports, images, strict=True))
        if not self._config.realtime:
            patiently = asyncio.gather(*(port.publish_patiently(image.encoded) for port, image in pairs))
            return await _unless(stop, patiently)
        due_s = begun_s + (self.frames + 1) * self._config.cadence_us * 1e-6
        early_s = due_s - asyncio.get_running_loop().time()
        self.frames_late += early_s < 0
        if not await _unless(stop, asyncio.sleep(early_s)):
            return False
        for port, image in pairs:
            port.publish(image.encoded)
        return True

    def _record(self, recorder: TruthRecorder, images: list[_Image]) -> None:
        output = self._config.output
        assert output is not None
        try:
            for _, (header, pixels, truth) in images:
                recorder.add(truth)
                if self._config.save_images:
                    write_image(image_path(output, truth.band, truth.frame), header, pixels)
        except OSError as error:
            raise _cannot_record(output, error) from None


class _Image(NamedTuple):
    encoded: Parts
    rendered: Rendered


def _image(config: SimulatorConfig, band: int, frame: int) -> _Image:
    rendered = render(config, band, frame)
    return _Image(encode(config, rendered.header, rendered.pixels), rendered)


def _check(config: SimulatorConfig) -> None:
    # What cannot work is refused here, before anyone connects.
    truth_of(config, 0, 0)
    if config.output is not None:
        with _recorder(config, config.output):
            pass


def _recorder(config: SimulatorConfig, output: Path) -> TruthRecorder:
    try:
        return TruthRecorder(config, output)
    except OSError as error:
        raise _cannot_record(output, error) from None


def _cannot_record(output: Path, error: OSError) -> ServeError:
    return ServeError(f"cannot record in {output}: {error.strerror or error}; choose another `output`")


def _started(config: SimulatorConfig) -> SimulatorConfig:
    if config.t_start is not None:
        return config
    return config.model_copy(update={"t_start": datetime.now(UTC)})


async def _all_have_clients(ports: list[BandPort]) -> None:
    for port in ports:
        await port.first_client.wait()


async def _unless(stop: asyncio.Event, work: Awaitable[object]) -> bool:
    """Do `work` unless `stop` is set first; return whether it was done."""
    working, stopping = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
