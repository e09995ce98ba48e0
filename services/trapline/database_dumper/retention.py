"""What is old leaves: partitions of a tier are dropped once everything in them is in the next tier."""

from __future__ import annotations

import asyncpg

from trapline.common.postgres.connection import Connection
from trapline.database_dumper.binning import Binning, tiers
from trapline.database_dumper.partitions import (
    BIN_WIDTHS_US,
    drop_partitions,
    make_partitions,
    microseconds,
    moment,
    partitions_of,
)

_NEXT = {"point": "minute", "minute": "hour", "hour": "day"}


def table_of(tier: str) -> str:
    """Return the table of a tier."""
    return "point" if tier == "point" else f"bin_{tier}"


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
        await make_partitions(con, "point", width, [now, now + width])
        for table, width in BIN_WIDTHS_US.items():
            await make_partitions(con, table, width, [now, now + width])
    keep = {"point": config.keep_points_s, "minute": config.keep_minutes_s, "hour": config.keep_hours_s}
    for tier, seconds in keep.items():
        if seconds:
            await _retire(con, binning, tier, now - round(seconds * 1e6))
        dropped += await _drop(con, tier)
    return dropped


async def _retire(con: Connection, binning: Binning, tier: str, cut: int) -> None:
    """Say that a tier begins later; before that, bin what is older in the datasets that have not done so."""
    ends = [p.end for p in await partitions_of(con, table_of(tier)) if p.end <= cut]
    if not ends or max(ends) <= (await tiers(con))[tier]:
        return
    since = max(ends)
    after = {}
    async with con.transaction():
        behind = f"SELECT dataset FROM binning WHERE {_NEXT[tier]} < $1 ORDER BY dataset"  # noqa: S608
        for row in await con.fetch(behind, moment(since)):
            held = await binning.lock_one(con, row["dataset"])
            after[row["dataset"]] = await binning.store(con, row["dataset"], held, [], held.bins.newest, since)
        await con.execute("UPDATE tier SET since = $2 WHERE name = $1", tier, moment(since))
    binning.remember(after)


async def _drop(con: Connection, tier: str) -> int:
    try:
        return await drop_partitions(con, table_of(tier), (await tiers(con))[tier])
    except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError):
        return 0  # a long query reads it: the next round tries again
