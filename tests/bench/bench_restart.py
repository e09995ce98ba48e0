"""`restart`: `kill -9` of the associator that knows a million objects, to its next record.

The baseline is a fresh Python that imports what the associator imports and loads the same snapshot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import associator_images
from bench.bench_associate import whole_sky
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs
from trapline.associator.core import AssociatorState
from trapline.associator.snapshot import dump
from trapline.common.config.mesh import MeshConfig
from trapline.common.ids import record_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.runtime.snapshot import write_snapshot
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.message import Message, encode

_PATIENCE_S = 120.0
_LOAD = """
import sys
from pathlib import Path
import trapline.associator.service
from trapline.associator.snapshot import load
from trapline.common.runtime.snapshot import read_snapshot
snapshot = read_snapshot(Path(sys.argv[1]))
load(snapshot.header["state"], snapshot.arrays)
"""


class _Sky:
    """The journals of a mesh without ingest and extractors: images come when they are told to."""

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._writers = {name: JournalWriter(config.journal_directory / name / "0") for name in ("images", "sources")}
        self._images = 0

    def add_image(self) -> None:
        """Append an image with a source, and that it was measured."""
        image = associator_images.image(1000 + self._images, ra_deg=150.0, dec_deg=30.0, place=None)
        header = Images(schema=SCHEMA, id=record_id(image.t_start_us or 0, SCHEMA, image.id), image=image)
        writer = self._writers["images"]
        place = Place("images", "0", writer.epoch, writer.append(encode(Message(header))))
        measured = associator_images.sources(msgspec.structs.replace(image, place=place), 150.0, 30.0)
        self._writers["sources"].append(encode(measured))
        self._images += 1

    def told(self) -> int:
        """Return how many records the associator has published."""
        path = self._config.journal_directory / "lightcurves" / "0"
        return PartitionReader(path).next_seq if path.is_dir() else 0

    def close(self) -> None:
        """Close the journals."""
        for writer in self._writers.values():
            writer.close()


def restart(size: Size) -> list[Comparison]:
    """Compare seconds to the next record with seconds to load the snapshot."""
    n_objects, pairs = (1_000_000, 10) if size == "full" else (50_000, 3)
    with tempfile.TemporaryDirectory(prefix="trapline-bench-") as directory:
        config = mesh_config(Path(directory), runtime={"snapshot_s": 3600.0})
        snapshot = config.data_directory / "snapshots" / "associator-0.snapshot"
        header, arrays = dump(AssociatorState(skies={"default": whole_sky(n_objects)}))
        values = {"state": header, "consumed": [], "outputs": {}}
        write_snapshot(snapshot, values, arrays)
        environment = {**os.environ, "TRAPLINE__MESH__DATA_DIRECTORY": str(config.data_directory)}
        sky = _Sky(config)
        with running_relay(config), contextlib.closing(sky):
            ours, baseline = in_pairs(
                lambda: _next_record_s(sky, environment), lambda: _load_s(snapshot, environment), pairs
            )
        size_mb = snapshot.stat().st_size / 1e6
    notes: dict[str, Note] = {"snapshot, MB": size_mb, "bytes per object on disk": 1e6 * size_mb / n_objects}
    return [Comparison(f"{n_objects:,} objects", "s", ours, baseline, Target("<=", 2.0), notes)]


def _next_record_s(sky: _Sky, environment: dict[str, str]) -> float:
    """Start the associator, wait for the record of one more image, and kill it."""
    sky.add_image()
    before, start = sky.told(), time.perf_counter()
    with _process([sys.executable, "-m", "trapline.associator"], environment) as child:
        while sky.told() == before:
            if child.poll() is not None or time.perf_counter() - start > _PATIENCE_S:
                raise InvalidRunError("the associator did not fold an image")
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        child.send_signal(signal.SIGKILL)
    return seconds


def _load_s(snapshot: Path, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", _LOAD, str(snapshot)], env=environment, check=True)
    return time.perf_counter() - start


@contextlib.contextmanager
def _process(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
