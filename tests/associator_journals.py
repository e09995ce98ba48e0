"""An associator alone in a process of its own, between journals that are written and read by hand."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from associator_images import sources
from associator_world import SETTINGS, measured_at
from mesh_runs import environment
from trapline.common.ids import record_id
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.postgres.connection import open_database
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.closing import Closing
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import array_to_ids
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.lightcurves import PENDING
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import POSITIONS


class Journals:
    """What ingest and two extractors would have written, and what the associator says."""

    def __init__(self, directory: Path, digits: int | None = None, **options: Any) -> None:
        self.directory, self._digits = directory, digits
        names = ("images/0", "sources/0", "sources/1", "sources/2")
        self._writers = {name: JournalWriter(directory / name, **options) for name in names}
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

    def answer(self, until: int | None = None) -> int:
        """Answer the requests that were made since the last time; return how many were answered so far."""
        for request in self.read("remeasure", self._answered):
            if until is not None and self._answered >= until:
                break
            self._answered += 1
            of = self._images[request.header.image_place.seq]
            columns = [request.arrays[c.name] for c in POSITIONS.columns]
            rows = list(zip(array_to_ids(columns[0]), *(c.tolist() for c in columns[1:]), strict=True))
            id_ = record_id(of.t_start_us or 0, "trapline.sources", of.id, request.header.id)
            header = msgspec.structs.replace(sources(of).header, id=id_, request=request.header.id)
            self._writers["sources/2"].append(encode(Message(header, measured_at(of, rows, self._digits))))
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
        path = self.directory / channel / "0"
        return PartitionReader(path).next_seq if path.exists() else 0

    def read(self, channel: str, since: int = 0) -> Iterator[Message[Any]]:
        """Yield the records of a channel of the associator, or of `images`."""
        end, path = self.said(channel), self.directory / channel / "0"
        while since < end:
            slab = PartitionReader(path).slab(since, max_bytes=1 << 28, max_records=100)
            for entry in slab.entries:
                yield decode([bytes(slab.data[o : o + n]) for o, n in entry.spans])
            since += len(slab.entries)

    def close(self) -> None:
        """Close what ingest and the extractors write."""
        for writer in self._writers.values():
            writer.close()


def stored(dsn: str, images: Sequence[Message[Any]], told: Sequence[Message[Any]]) -> int:
    """Store what was received and what the associator said, as the dumper does, and return how many segments there are.

    Points of all seconds but the newest are in them: sooner than anyone is allowed to want.
    """
    channels = {"images": images, "lightcurves": told}
    rows = [rows_of(Place(c, "0", 0, n), m) for c, found in channels.items() for n, m in enumerate(found)]
    config = DumperConfig(segment_after_s=1).model_copy(update={"point_partition_s": 3})

    async def store() -> int:
        async with open_database(dsn) as database, database.connection() as con:
            await store_batch(con, "database_dumper-0@test", rows, binning=Binning(config))
            closing = Closing(config)
            await closing.maintain(con)
            while await closing.step(con):
                pass
            return int(await con.fetchval("SELECT count(*) FROM segment"))

    return asyncio.run(store())


def variables_of(directory: Path) -> dict[str, str]:
    """Return the settings of the associator of `associator_world`, for a mesh in a directory."""
    return {
        "TRAPLINE__MESH__DATA_DIRECTORY": str(directory),
        "TRAPLINE__RUNTIME__SNAPSHOT_S": "0.3",
        "TRAPLINE__RUNTIME__MAX_ATTEMPTS": "100",
        "TRAPLINE__ASSOCIATOR__MAX_HOLD_S": "null",
        "TRAPLINE__ASSOCIATOR__IDLE_AFTER_S": "null",
        # A request follows its record at once: who counts records of both can tell when all is done.
        "TRAPLINE__ASSOCIATOR__ASK_AFTER_S": "0",
        "TRAPLINE__ASSOCIATOR__EXPIRATION": str(SETTINGS.expiration),
        "TRAPLINE__ASSOCIATOR__BACKFILL": str(SETTINGS.backfill),
        "TRAPLINE__ASSOCIATOR__OPEN_POINTINGS": str(SETTINGS.open_pointings),
    }


@contextlib.contextmanager
def associator(directory: Path, more: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[bytes]]:
    """Run an associator while the block lasts; it is killed at the end."""
    command, env = [sys.executable, "-m", "trapline.associator"], environment(variables_of(directory), more)
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
