"""`pipeline`, `pipeline-2300`: images from sockets to committed rows through a real mesh.

The mesh runs for the whole benchmark with its defaults and as many extractors as cores; a measurement ends when the
dumper has committed the last image, so the half second for which it collects a batch counts. The baseline has the same
pixels in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from bench.bare import bare_sep
from bench.bench_extract import image_of, min_area_px
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs
from bench.imager import Imager, imager
from bench.meshes import Running, eventually, running_mesh
from bench.report import cores
from bench.skies import N_BANDS, Sky
from trapline.common.testing.postgres import fresh_database, temporary_cluster
from trapline.source_extractor.config import ExtractorConfig

_TARGET = Target(">=", 0.8)
_IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class _Load:
    """A sky, and how many of its images are sent in one measurement."""

    side_px: int
    n_sources: int
    images: int
    pairs: int


_LOADS: dict[Size, tuple[_Load, ...]] = {
    "small": (_Load(512, 50, 20, 2),),
    "full": (_Load(1024, 100, 300, 10), _Load(1024, 1000, 200, 10)),
}
_LOADS_2300: dict[Size, tuple[_Load, ...]] = {
    "small": (_Load(2300, 100, 8, 2),),
    "full": (_Load(2300, 100, 60, 10), _Load(2300, 1000, 50, 10)),
}


def pipeline(size: Size) -> list[Comparison]:
    """Compare images/s of 1024 x 1024 pixels, with few and many sources."""
    return [_compare(load) for load in _LOADS[size]]


def pipeline_2300(size: Size) -> list[Comparison]:
    """Compare images/s of 2300 x 2300 pixels."""
    return [_compare(load) for load in _LOADS_2300[size]]


def _compare(load: _Load) -> Comparison:
    sky = Sky.of(load.side_px, load.n_sources, 8 if load.side_px < 2000 else 4)
    smallest = min_area_px(image_of(sky), ExtractorConfig())
    with bare_sep(sky.pixels, smallest) as bare, pipeline_mesh(sky) as mesh:
        mesh.images_per_s(2 * cores() + N_BANDS)  # until every process has seen an image
        idle = mesh.idle_cores()
        before, first = mesh.running.cpu_s(), mesh.sent
        values = in_pairs(
            lambda: mesh.images_per_s(load.images), lambda: bare.images_per_s(load.images), load.pairs, warm_up=0
        )
        used = mesh.running.cpu_s()
        notes: dict[str, Note] = {
            f"processor time of {name}, ms per image": 1e3 * (used[name] - before[name]) / (mesh.sent - first)
            for name in used
        }
        notes |= {"cores that the idle mesh uses while bare sep runs": idle, **mesh.check(load)}
    return Comparison(f"{load.side_px} px, {load.n_sources} sources", "images/s", *values, _TARGET, notes)


@dataclass(slots=True)
class PipelineMesh:
    """A mesh that runs, its imager, and a connection to its database."""

    sky: Sky
    running: Running
    imager: Imager
    runner: asyncio.Runner
    con: asyncpg.Connection[asyncpg.Record]
    sent: int = field(default=0)

    def images_per_s(self, count: int) -> float:
        """Send images, and return how many per second were stored until the last of them was."""
        frames = range(self.sent // N_BANDS, (self.sent + count) // N_BANDS)
        images = [[self.sky.parts(band, frame) for frame in frames] for band in range(N_BANDS)]
        self.sent += N_BANDS * len(frames)
        start = time.perf_counter()
        self.imager.send(images)
        eventually(lambda: self._stored() >= self.sent, "the last row", self.running, 300.0)
        return N_BANDS * len(frames) / (time.perf_counter() - start)

    def idle_cores(self) -> float:
        """Return how much of a processor all processes use when there is nothing to do."""
        before = sum(self.running.cpu_s().values())
        time.sleep(_IDLE_S)
        return (sum(self.running.cpu_s().values()) - before) / _IDLE_S

    def check(self, load: _Load) -> dict[str, Note]:
        """Return what is stored, or raise when that is not what was sent."""
        images, rejected, points = self._row(
            "SELECT count(*), count(*) FILTER (WHERE rejected), (SELECT count(*) FROM measurement) FROM image"
        )
        if (images, rejected) != (self.sent, 0) or points < 0.9 * load.n_sources * self.sent:
            raise InvalidRunError(f"of {self.sent} images {images} are stored, {rejected} rejected, {points} points")
        return {"images stored": images, "points stored": points}

    def _stored(self) -> int:
        return int(self._row("SELECT coalesce(sum(seq), 0) FROM reader_position WHERE channel = 'lightcurves'")[0])

    def _row(self, sql: str) -> asyncpg.Record:
        row = self.runner.run(self.con.fetchrow(sql))
        assert row is not None
        return row


@contextmanager
def pipeline_mesh(sky: Sky) -> Iterator[PipelineMesh]:
    """Run a mesh with its imager and its own database while the block lasts."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
        cluster = stack.enter_context(temporary_cluster(durable=True))
        dsn = stack.enter_context(fresh_database(cluster))
        ports = stack.enter_context(imager(N_BANDS))
        tables = {
            "database": {"dsn": dsn},
            "image_ingest": {"streams": ports.streams},
            "source_extractor": {"replicas": cores()},
            # What was measured is given up soon: a night of images is not what is looked at.
            "journal": {"channels": {"images": {"segment_bytes": 128 << 20, "retention": {"limit_bytes": 2 << 30}}}},
        }
        running = stack.enter_context(running_mesh(directory, tables))
        ports.accept()
        runner = stack.enter_context(asyncio.Runner())
        con = runner.run(asyncpg.connect(dsn))
        stack.callback(lambda: runner.run(con.close()))
        yield PipelineMesh(sky, running, ports, runner, con)
