"""All benchmarks by name: what each measures, and where."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from bench.harness import Comparison, Size

Measure = Callable[[Size], list[Comparison]]


class Benchmark(NamedTuple):
    """What is measured against what, and the function that does it: ``module:function``."""

    what: str
    where: str

    def load(self) -> Measure:
        """Import the function: none of the others need be importable."""
        module, _, function = self.where.partition(":")
        measure: Measure = getattr(importlib.import_module(f"bench.{module}"), function)
        return measure


BENCHMARKS = {
    "channel": Benchmark(
        "4 MB records through append, relay and a reader over tcp, against raw pyzmq PUSH/PULL", "bench_channel:large"
    ),
    "channel-small": Benchmark(
        "1 kB records on the same way, fetched in batches, against raw pyzmq PUSH/PULL", "bench_channel:small"
    ),
    "pipeline": Benchmark(
        "1024 x 1024 images from a socket to committed rows, against bare sep in as many processes",
        "bench_pipeline:pipeline",
    ),
    "pipeline-2300": Benchmark("the same for 2300 x 2300 images", "bench_pipeline:pipeline_2300"),
    "latency": Benchmark(
        "last byte of an image to its transient in a plug-in's hands, against bare sep on that image",
        "bench_latency:latency",
    ),
    "ingest": Benchmark(
        "CPU per GB of 16 ports of 1024 x 1024 images, against recv_into and file append", "bench_ingest:ingest"
    ),
    "extract": Benchmark("milliseconds per stage of the extractor, against bare sep", "bench_extract:stages"),
    "pyse": Benchmark(
        "the extractor beside PySE on the same images: time, completeness, false detections, pulls of both",
        "bench_pyse:side_by_side",
    ),
    "completeness": Benchmark(
        "completeness and purity over signal to noise and crowding, against what noise allows; a table and a plot",
        "bench_completeness:completeness",
    ),
    "forced": Benchmark(
        "10^4 forced positions in a 2300 x 2300 image, against sep.sum_ellipse of the same pixels",
        "bench_forced:forced",
    ),
    "associate": Benchmark(
        "10^4 sources to 10^6 objects, against scipy's cKDTree query of the positions", "bench_associate:associate_many"
    ),
    "flat-associator": Benchmark(
        "the associator's last hundred of 10,000 images of a field, against its first", "bench_associate:flat"
    ),
    "injection": Benchmark(
        "injected transients recovered in their first image, against all of them; false alarms of noise alone",
        "bench_injection:injection",
    ),
    "flat": Benchmark(
        "the dumper's time per image with 10^8 stored points and 10^6 objects, against an empty store",
        "bench_flat:flat",
    ),
    "read": Benchmark(
        "a whole lightcurve and a cone at 10^8 stored points, against the same at 10^6", "bench_flat:read"
    ),
    "restart": Benchmark(
        "kill -9 of the associator to its next record, against a fresh Python that loads the snapshot",
        "bench_restart:restart",
    ),
    "store": Benchmark(
        "points of the dumper with all tables and its position committed, against COPY into one table",
        "bench_store:store",
    ),
    "survey": Benchmark(
        "visits of 1,000 and 10,000 detections until all is committed, against LSST's lsst-dax-apdb on the same server",
        "bench_survey:survey",
    ),
    "dashboard": Benchmark(
        "images/s of the mesh with ten viewers of the dashboard, against without", "bench_dashboard:dashboard"
    ),
    "pages": Benchmark(
        "each page of the dashboard, warm, at 10^8 stored points and 10^6 objects, against 10^6 and 10^4",
        "bench_pages:pages",
    ),
}
