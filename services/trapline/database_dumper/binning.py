"""Which bins a batch opens, closes and changes, in the transaction of its points."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import BIN, POSTGRES_EPOCH_US, Rows
from trapline.database_dumper.bin_store import Bands, read_open_bins, store_changes
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.lightcurve_rows import Block, bin_rows
from trapline.database_dumper.open_bins import TIERS, OpenBins, advance
from trapline.database_dumper.partitions import DAY_US, microseconds, moment
from trapline.database_dumper.values import as_uuid
from trapline.schemas.columns import array_to_ids

_BEGIN = """
INSERT INTO binning (_id, dataset, newest, minute, hour, day, batches) VALUES ($1, $1, $2, $3, $4, $5, 0)
ON CONFLICT DO NOTHING
"""
_ADVANCE = """
UPDATE binning SET newest = $2, minute = $3, hour = $4, day = $5, batches = $6 WHERE _id = $1
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Open bins of a dataset as they are after so many commits of its row of `binning`."""

    batches: int
    bins: OpenBins


class Binning:
    """The open bins of all datasets, in memory.

    They are a copy of what the database implies. Each commit counts up; where the count is another than the one that
    is remembered (another dumper wrote, or a commit whose answer was lost), they are read back.

    Parameters
    ----------
    config
        How long a minute waits for its last points.
    now_us
        The time, in microseconds since 1970: an image from the far future closes nothing.
    """

    def __init__(self, config: DumperConfig | None = None, now_us: Callable[[], int] | None = None) -> None:
        self.config = config or DumperConfig()
        self._now_us = now_us or (lambda: time.time_ns() // 1000)
        self._held: dict[UUID, Held] = {}
        self._bands = Bands()
        self.expired = 0
        """bins that came after their tier was dropped, since the start"""

    async def lock(self, con: Connection, blocks: Sequence[Block]) -> dict[UUID, Held]:
        """Return the open bins of the datasets of some points, which wait for us now; before the points are stored."""
        held = {}
        for dataset in sorted({block.dataset for block in blocks}):
            first = min(block.t for block in blocks if block.dataset == dataset) + POSTGRES_EPOCH_US
            beginning = OpenBins.beginning(first)
            await con.execute(_BEGIN, as_uuid(dataset), *_row(beginning))
            held[as_uuid(dataset)] = await self.lock_one(con, as_uuid(dataset))
        return held

    async def lock_one(self, con: Connection, dataset: UUID) -> Held:
        """Return the open bins of one dataset that has been begun."""
        row = await con.fetchrow("SELECT * FROM binning WHERE _id = $1 FOR UPDATE", dataset)
        assert row is not None
        remembered = self._held.get(dataset)
        if remembered is not None and remembered.batches == row["batches"]:
            return remembered
        return Held(row["batches"], await read_open_bins(con, dataset, row, self._bands))

    async def add(
        self, con: Connection, held: Mapping[UUID, Held], blocks: Sequence[Block], new: set[bytes] | None
    ) -> dict[UUID, Held]:
        """Store what points change, and return the open bins after it, to be remembered after the commit.

        Parameters
        ----------
        con
            In the transaction that stores the points.
        held
            Of `lock`.
        blocks
            The points.
        new
            Ids of those that were not stored before; None when all are new.
        """
        after = {}
        for dataset, before in held.items():
            own = [block for block in blocks if as_uuid(block.dataset) == dataset]
            points = [self._rows(block, new) for block in own]
            newest = min(max(block.t for block in own) + POSTGRES_EPOCH_US, self._now_us() + DAY_US)
            after[dataset] = await self.store(con, dataset, before, points, newest)
        return after

    async def store(
        self,
        con: Connection,
        dataset: UUID,
        before: Held,
        points: Sequence[Rows],
        newest: int,
        until: int | None = None,
    ) -> Held:
        """Take points, close what is due (or all before `until`), and return the open bins after it."""
        newest = max(newest, before.bins.newest)
        due = newest - round(self.config.bin_grace_s * 1e6) if until is None else until
        rows = _joined(points)
        bins, changes = advance(before.bins, rows, newest, due)
        self.expired += await store_changes(con, changes, self._bands, await tiers(con))
        await con.execute(_ADVANCE, dataset, *_row(bins), before.batches + 1)
        return Held(before.batches + 1, bins)

    def remember(self, held: Mapping[UUID, Held]) -> None:
        """Keep open bins whose batch is committed."""
        self._held |= held

    def _rows(self, block: Block, new: set[bytes] | None) -> Rows:
        band = self._bands.number(block.band)
        if new is None:
            return bin_rows(block, band)
        # A point that the batch holds twice was stored once.
        points = array_to_ids(block.points["point_id"])
        chosen = []
        for row, point in enumerate(points):
            if point in new:
                new.remove(point)
                chosen.append(row)
        return bin_rows(block, band, np.array(chosen, np.intp))


async def tiers(con: Connection) -> dict[str, int]:
    """Return from when on each tier is kept, by name, in microseconds since 1970."""
    return {row["name"]: microseconds(row["since"]) for row in await con.fetch("SELECT name, since FROM tier")}


def _row(bins: OpenBins) -> tuple[object, ...]:
    return moment(bins.newest), *(moment(bins.marks[tier]) for tier in TIERS)


def _joined(points: Sequence[Rows]) -> Rows:
    return np.concatenate(points) if points else np.zeros(0, BIN)
