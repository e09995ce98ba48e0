"""`kill -9` of the associator alone, again and again: the points, forks and statistics are those of a run without."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from associator_images import image, sources
from associator_world import SETTINGS, World, measured_at, points, states
from mesh_runs import environment
from trapline.common.ids import record_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.sky import from_tangent
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.columns import Kind, Link, array_to_ids
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.lightcurves import PENDING
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import POSITIONS
from waiting import wait_for

FIELDS = 10
ERROR_DEG = 0.002


def wide_night(seed: int, per_field: int, images: int) -> list[Message[Sources]]:
    """Return images of ten fields, two of each in turn, each with its own objects, most of which are seen each time."""
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-9, 9, (2, FIELDS, per_field))
    # A tenth of the stars stand so close to another one that they fork it or share with it.
    crowd = per_field // 10
    east[:, :crowd] = east[:, crowd : 2 * crowd] + rng.normal(0, 3 * ERROR_DEG, (FIELDS, crowd))
    north[:, :crowd] = north[:, crowd : 2 * crowd]
    records = []
    for number in range(images):
        field = number // 2 % FIELDS  # twice in a row: what the second image finds is looked for in the first
        centre = 36.0 * field
        of = image(number, ra_deg=centre, dec_deg=30.0, shape=(600, 600), pixel_deg=0.04, beam_deg=0.05)
        seen = rng.random(per_field) < 0.95
        e, n = (axis[field, seen] + rng.normal(0, ERROR_DEG, seen.sum()) for axis in (east, north))
        ra, dec = from_tangent(e, n, centre, 30.0)
        records.append(sources(of, ra % 360, dec, rng.normal(5, 1, len(ra)), error_deg=ERROR_DEG))
    return records


class Journals:
    """What ingest and two extractors would have written, and what the associator says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers = {
            name: JournalWriter(directory / name) for name in ("images/0", "sources/0", "sources/1", "sources/2")
        }
        self._images: dict[int, Any] = {}
        self._answered = self._told = self._due = 0

    def add(self, number: int, record: Message[Sources]) -> None:
        """Append an image, and its sources to one of two partitions."""
        of = msgspec.structs.replace(record.header.image, place=None)
        header = Images(schema=SCHEMA, id=record_id(of.t_start_us or 0, SCHEMA, of.id), image=of)
        writer = self._writers["images/0"]
        place = Place("images", "0", writer.epoch, writer.append(encode(Message(header))))
        self._images[place.seq] = of = msgspec.structs.replace(of, place=place)
        header = msgspec.structs.replace(record.header, image=of)
        self._writers[f"sources/{number % 2}"].append(encode(Message(header, record.arrays)))

    def counts(self) -> tuple[int, int]:
        """Return how many records there are on `lightcurves` and on `remeasure`."""
        return self.said("lightcurves"), self.said("remeasure")

    def answer(self) -> int:
        """Answer the requests that were made since the last time; return how many there were."""
        for request in self.read("remeasure", self._answered):
            self._answered += 1
            of = self._images[request.header.image_place.seq]
            columns = [request.arrays[c.name] for c in POSITIONS.columns]
            rows = list(zip(array_to_ids(columns[0]), *(c.tolist() for c in columns[1:]), strict=True))
            id_ = record_id(of.t_start_us or 0, "trapline.sources", of.id, request.header.id)
            header = msgspec.structs.replace(sources(of).header, id=id_, request=request.header.id)
            self._writers["sources/2"].append(encode(Message(header, measured_at(of, rows))))
        return self._answered

    def due(self) -> int:
        """Return how many requests are made, or will be, by what `lightcurves` says is pending."""
        for record in self.read("lightcurves", self._told):
            self._told += 1
            pending = PENDING.select(record.arrays)["image_id"] if PENDING.check(record.arrays) else []
            self._due += len(np.unique(pending, axis=0))
        return self._due

    def said(self, channel: str) -> int:
        """Return how many records there are."""
        path = self._directory / channel / "0"
        return PartitionReader(path).next_seq if path.exists() else 0

    def read(self, channel: str, since: int = 0) -> Iterator[Message[Any]]:
        """Yield the records of a channel of the associator."""
        end, path = self.said(channel), self._directory / channel / "0"
        while since < end:
            slab = PartitionReader(path).slab(since, max_bytes=1 << 28, max_records=100)
            for entry in slab.entries:
                yield decode([bytes(slab.data[o : o + n]) for o, n in entry.spans])
            since += len(slab.entries)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


@contextlib.contextmanager
def associator(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = {
        "TRAPLINE__MESH__DATA_DIRECTORY": str(directory),
        "TRAPLINE__RUNTIME__SNAPSHOT_S": "0.3",
        "TRAPLINE__RUNTIME__MAX_ATTEMPTS": "100",
        "TRAPLINE__ASSOCIATOR__MAX_HOLD_S": "null",
        "TRAPLINE__ASSOCIATOR__IDLE_AFTER_S": "null",
        "TRAPLINE__ASSOCIATOR__EXPIRATION": str(SETTINGS.expiration),
        "TRAPLINE__ASSOCIATOR__BACKFILL": str(SETTINGS.backfill),
        "TRAPLINE__ASSOCIATOR__OPEN_POINTINGS": str(SETTINGS.open_pointings),
    }
    command = [sys.executable, "-m", "trapline.associator"]
    child = subprocess.Popen(command, env=environment(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def tortured(tmp_path: Path, records: list[Message[Sources]], seed: int) -> tuple[World, int]:
    """Fold a night with an associator that is killed after every few records, and return what it said."""
    random, kills, config = np.random.default_rng(seed), 0, mesh_config(tmp_path)
    journals, added = Journals(config.journal_directory), 0
    with running_relay(config), contextlib.closing(journals):
        while True:
            with associator(config.data_directory) as child:
                until = journals.said("lightcurves") + int(random.integers(0, max(len(records) // 4, 2)))
                while journals.said("lightcurves") <= until:
                    if added < len(records) and random.random() < 0.5:
                        journals.add(added, records[added])
                        added += 1
                    said, asked = journals.said("lightcurves"), journals.answer()
                    if added == len(records) and said == added + asked == added + journals.due():
                        break
                    assert child.poll() is None
                    if added == len(records):
                        wait_for(lambda now=(said, asked): journals.counts() != now)
                else:
                    kills += 1
                    continue  # killed in the midst of what comes next
            break
        told = list(journals.read("lightcurves"))
    world = World(random)
    world.told = told
    return world, kills


def check(tmp_path: Path, per_field: int, images: int) -> None:
    records = wide_night(5, per_field, images)
    undisturbed = World(np.random.default_rng(1)).run(records)
    world, kills = tortured(tmp_path, records, 5)
    assert kills >= 4
    expected = points(undisturbed)
    assert points(world) == expected
    assert {row[3][0] for row in expected.values()} >= {Kind.BLIND, Kind.FORCED, Kind.BACKFILL}
    assert {row[4][0] for row in expected.values()} >= {Link.NEW, Link.FORKED, Link.SHARED, Link.FORCED}
    forks = [[r.header.forks for r in one.told if r.header.forks] for one in (world, undisturbed)]
    assert forks[0] == forks[1]
    newest, again = states(undisturbed), states(world)
    assert again.keys() == newest.keys()
    keys = list(newest)
    values = [np.array([found[key] for key in keys]) for found in (again, newest)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9, atol=1e-12)


@pytest.mark.timeout(300)
def test_kills_change_no_point_no_fork_and_no_statistic(tmp_path: Path) -> None:
    check(tmp_path, per_field=100, images=24)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_with_a_hundred_thousand_objects(tmp_path: Path) -> None:
    check(tmp_path, per_field=10_000, images=60)
