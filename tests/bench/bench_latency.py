"""`latency`: from the last byte of an image to its transient in a plug-in's hands, in a mesh that keeps up easily.

Each image has one source of its own that no image before had, so each opens an event. The clock starts when the kernel
has taken the last byte, and stops when `trapline.client` yields the event. Bare sep extracts the same image afterwards,
alone, before the next one comes. What each service took of it is in the event's own timeline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from bench.bare import extract, tune_stack
from bench.bench_extract import image_of, min_area_px
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, percentile, seconds_of, watched
from bench.imager import Imager, imager
from bench.meshes import running_mesh
from bench.report import cores
from bench.skies import N_BANDS, Pixels, Sky
from trapline.client import AsyncMesh, Event, connect_async
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.schemas.transients import Stage
from trapline.simulator.beam import add_point_sources, pixel_beam
from trapline.simulator.core import truth_of
from trapline.simulator.framing import Parts, framed
from trapline.simulator.telescope import header_of, start_us
from trapline.source_extractor.config import ExtractorConfig
from trapline.transient_finder.config import FinderConfig

_TARGET = Target("<=", 2.0, allowance=20.0)
_SNR = 60.0
_SPACING_PX = 40
_START_S = 120.0
_EVENT_S = 20.0


@dataclass(frozen=True, slots=True)
class _Load:
    side_px: int
    n_sources: int
    frames: int
    cadence_s: float


_LOADS: dict[Size, _Load] = {"small": _Load(512, 20, 5, 0.5), "full": _Load(1024, 100, 60, 1.0)}


def latency(size: Size) -> list[Comparison]:
    """Compare milliseconds per image, at 2 bands and one image a second in each."""
    load = _LOADS[size]
    show = _Show(Sky.of(load.side_px, load.n_sources, 2 * N_BANDS))
    tune_stack(show.sky.pixels, show.min_area_px)
    with _mesh() as (ports, relay):
        return [asyncio.run(_measure(load, show, ports, relay))]


async def _measure(load: _Load, show: _Show, ports: Imager, relay: str) -> Comparison:
    waited: list[float] = []
    bare: list[float] = []
    parts: list[dict[str, float]] = []
    quiet = FinderConfig().warm_up  # images that make known what is steady, and announce nothing
    async with connect_async(relay) as mesh:
        arrivals = _Arrivals(show.sky)
        following = asyncio.create_task(arrivals.follow(mesh))
        for frame in watched(range(quiet + load.frames)):
            images = [show.image(frame, band) for band in range(N_BANDS)]
            due = time.perf_counter() + load.cadence_s
            sent = await asyncio.to_thread(ports.send, [[image.parts] for image in images])
            if frame == quiet - 1:
                await _folded(mesh, quiet * N_BANDS)
            if frame >= quiet:
                came = [await arrivals.of(frame, band) for band in range(N_BANDS)]
                waited += [one.at_s - start for one, start in zip(came, sent, strict=True)]
                parts += [one.parts_ms(start) for one, start in zip(came, sent, strict=True) if one.stages]
                bare += [await asyncio.to_thread(show.bare_s, image.pixels) for image in images]
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        following.cancel()
    ours, baseline = [1e3 * s for s in waited], [1e3 * s for s in bare]
    later = [max(ours[i : i + N_BANDS]) for i in range(0, len(ours), N_BANDS)]
    notes: dict[str, Note] = {f"{name}, ms": percentile(ours, q) for name, q in (("p90", 90), ("p99", 99))}
    notes["p50 of the last band, ms"] = percentile(later, 50)
    notes |= {
        f"p50 in {name}, ms": percentile([part[name] for part in parts], 50) for name in (parts[0] if parts else ())
    }
    return Comparison(f"{load.side_px} px, {N_BANDS} bands", "ms", ours, baseline, _TARGET, notes)


async def _folded(mesh: AsyncMesh, count: int) -> None:
    """Return when so many images are folded: until then processes are starting."""
    async with asyncio.timeout(_START_S):
        async for _ in mesh.subscribe("lightcurves", start="first"):
            count -= 1
            if not count:
                return


class _Image(NamedTuple):
    parts: Parts
    pixels: Pixels


class _Show:
    """Images with one new source each, between the steady ones."""

    def __init__(self, sky: Sky) -> None:
        self.sky = sky
        self.min_area_px = min_area_px(image_of(sky), ExtractorConfig())
        side_px = sky.config.nx
        steady = truth_of(sky.config, 0, 0).sources
        axis = np.arange(_SPACING_PX, side_px - _SPACING_PX, _SPACING_PX)
        free = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float64)
        nearest, _ = cKDTree(np.stack([steady["x"], steady["y"]], axis=-1)).query(free)
        self._places = free[nearest > _SPACING_PX / 2]

    def image(self, frame: int, band: int) -> _Image:
        """Return an image; none before it had a source where its own is."""
        config, number = self.sky.config, N_BANDS * frame + band
        if number >= len(self._places):
            raise InvalidRunError(f"there is room for {len(self._places)} sources, not for {number + 1}")
        pixels = self.sky.pixels_of(band, frame).copy()
        x, y = self._places[number, :, None]
        add_point_sources(pixels, x, y, np.array([_SNR * config.rms_jy_per_beam]), pixel_beam(config))
        return _Image(framed(header_of(config, band, frame), pixels), pixels)

    def bare_s(self, pixels: Pixels) -> float:
        """Return how long bare sep takes for an image."""
        return seconds_of(lambda: extract(pixels, self.min_area_px))


class _Arrival(NamedTuple):
    """An event in a plug-in's hands: when (a time of `perf_counter`), and when what it was made of was published."""

    at_s: float
    stages: list[Stage]
    t_pub_us: int

    def parts_ms(self, sent_s: float) -> dict[str, float]:
        """Return how long each service took, and the way to the plug-in."""
        # Both clocks are those of this machine, and this is soon after.
        wall_less_perf_s = time.time() - time.perf_counter()
        names = [stage.producer.partition("/")[0] for stage in self.stages] + ["transient_finder", "the plug-in"]
        published = [stage.t_pub_us / 1e6 - wall_less_perf_s for stage in self.stages]
        times = [sent_s, *published, self.t_pub_us / 1e6 - wall_less_perf_s, self.at_s]
        return {name: 1e3 * (end - start) for name, start, end in zip(names, times[:-1], times[1:], strict=True)}


class _Arrivals:
    """When the events of each image were in a plug-in's hands."""

    def __init__(self, sky: Sky) -> None:
        self._sky = sky
        self._freq_hz = np.array([band.freq_hz for band in sky.config.bands])
        self._times: dict[tuple[int, int], _Arrival] = {}
        self._news = asyncio.Event()

    async def follow(self, mesh: AsyncMesh) -> None:
        """Take events as a plug-in does, until cancelled."""
        async for event in mesh.subscribe("transients", start="first"):
            now = time.perf_counter()
            if isinstance(event, Event) and event.kind == "new_source":
                # Ingest rounds frequencies.
                band = int(np.abs(self._freq_hz - event.band.freq_hz).argmin())
                self._times.setdefault((event.t_us, band), _Arrival(now, event.timeline, event.t_pub_us))
                self._news.set()

    async def of(self, frame: int, band: int) -> _Arrival:
        """Return the arrival of the event of an image, once it is there."""
        key = (start_us(self._sky.config, frame), band)
        try:
            async with asyncio.timeout(_EVENT_S):
                while key not in self._times:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise InvalidRunError(f"the source of frame {frame}, band {band} was not announced") from None
        return self._times[key]


@contextmanager
def _mesh() -> Iterator[tuple[Imager, str]]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
        cluster = stack.enter_context(temporary_cluster(durable=True))
        tables = {
            "database": {"dsn": stack.enter_context(fresh_database(cluster))},
            "source_extractor": {"replicas": cores()},
        }
        ports = stack.enter_context(imager(N_BANDS))
        running = stack.enter_context(running_mesh(directory, {**tables, "image_ingest": {"streams": ports.streams}}))
        ports.accept()
        yield ports, running.relay
