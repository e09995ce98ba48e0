"""What is old leaves: partitions of a tier are dropped once everything in them is in the next tier."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

import asyncpg

from trapline.common.postgres.connection import Connection
from trapline.database_dumper.binning import Binning, tiers
from trapline.database_dumper.intervals import SEALED, closed_intervals, no_batch, partitions_beside
from trapline.database_dumper.partitions import (
    BIN_WIDTHS_US,
    Partition,
    drop_partitions,
    make_partitions,
    microseconds,
    moment,
    partitions_of,
)

_NEXT = {"point": "minute", "monitored": "minute", "minute": "hour", "hour": "day"}
_TABLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "point": ("point", "segment_detected"),
        "monitored": ("segment_monitored",),
        "minute": ("bin_minute",),
        "hour": ("bin_hour",),
    }
)
"""Where the rows of a tier are."""


async def maintain(con: Connection, binning: Binning) -> int:
    """Make the partitions that are needed next, drop those that are old, and return how many were dropped.

    Old is what lies so long before the newest image of the store: the past is not aged by a clock. May be killed at any
    time, and finishes then what was begun.
    """
    newest = await con.fetchval("SELECT max(newest) FROM binning")
    if newest is None:
        return 0
    now, config, dropped = microseconds(newest), binning.config, 0
    async with con.transaction():
        width = round(config.point_partition_s * 1e6)
        beside = partitions_beside(await closed_intervals(con))
        await make_partitions(con, "point", width, [now, now + width], beside)
        for table, width in BIN_WIDTHS_US.items():
            await make_partitions(con, table, width, [now, now + width])
    keep = {
        "point": config.keep_points_s,
        "monitored": config.keep_monitored_points_s,
        "minute": config.keep_minutes_s,
        "hour": config.keep_hours_s,
    }
    for tier, seconds in keep.items():
        if seconds:
            await _retire(con, binning, tier, now - round(seconds * 1e6))
        dropped += await _drop(con, tier)
    return dropped


async def _retire(con: Connection, binning: Binning, tier: str, cut: int) -> None:
    """Say that a tier begins later; before that, bin what is older in the datasets that have not done so."""
    together = tier == "point" and binning.config.keep_monitored_points_s is None
    tables = _TABLES[tier] + (_TABLES["monitored"] if together else ())
    partitions = [p for table in tables for p in await partitions_of(con, table)]
    if tier == "point" and not together:
        cut = min([cut, *await _rows_only(con)])
    ends = [p.end for p in partitions if p.end <= cut]
    if not ends or max(ends) <= (await tiers(con))[tier]:
        return
    since = max(ends)
    after = {}
    async with con.transaction():
        await no_batch(con)
        behind = f"SELECT dataset FROM binning WHERE {_NEXT[tier]} < $1 ORDER BY dataset"  # noqa: S608
        for row in await con.fetch(behind, moment(since)):
            held = await binning.lock_one(con, row["dataset"])
            after[row["dataset"]] = await binning.store(con, row["dataset"], held, [], held.bins.newest, since)
        names = [tier, *(["monitored"] if together else [])]
        await con.execute(
            "UPDATE tier SET since = greatest(since, $2) WHERE name = ANY($1::text[])", names, moment(since)
        )
    binning.remember(after)


async def _rows_only(con: Connection) -> list[int]:
    """Return the starts of partitions of points that are not in segments yet: what is watched has to be kept."""
    written = {(i.start, i.end) for i in await closed_intervals(con) if i.state != SEALED}
    found: list[Partition] = await partitions_of(con, "point")
    return [p.start for p in found if (p.start, p.end) not in written]


async def _drop(con: Connection, tier: str) -> int:
    since, dropped = (await tiers(con))[tier], 0
    for table in _TABLES[tier]:
        # A long query may read it: the next round tries again.
        with suppress(asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
            dropped += await drop_partitions(con, table, since)
    return dropped
