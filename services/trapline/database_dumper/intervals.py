"""Intervals of time that are closed: their points are in segments, or on the way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trapline.common.ids import fact_id
from trapline.common.postgres.connection import Connection
from trapline.database_dumper.partitions import Partition, microseconds, moment
from trapline.database_dumper.values import as_uuid

SEALED, WRITTEN, DROPPED = 0, 1, 2
"""States, as in `closed_interval`."""

_LOCK = 0x7472617365
_INSERT = "INSERT INTO closed_interval (_id, since, until, state) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Times from `start` up to but not including `end`, in microseconds since 1970."""

    start: int
    end: int
    state: int = SEALED


async def closed_intervals(con: Connection) -> list[Interval]:
    """Return all closed intervals, in the order of time."""
    rows = await con.fetch("SELECT since, until, state FROM closed_interval ORDER BY since")
    return [Interval(microseconds(row["since"]), microseconds(row["until"]), row["state"]) for row in rows]


async def intervals_of_a_batch(con: Connection) -> list[Interval]:
    """Return all closed intervals; until the end of this transaction none is closed."""
    await con.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
    return await closed_intervals(con)


async def no_batch(con: Connection) -> None:
    """Wait for the batches that are being stored; until the end of this transaction none begins."""
    await con.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


async def tidy(con: Connection) -> None:
    """Forget intervals that are older than all points, and make one of those that follow each other."""
    async with con.transaction():
        await no_batch(con)
        await con.execute(
            "DELETE FROM closed_interval WHERE state = $1 AND until <= (SELECT min(since) FROM tier "
            "WHERE name IN ('point', 'monitored'))",
            DROPPED,
        )
        joined: list[Interval] = []
        found = [interval for interval in await closed_intervals(con) if interval.state == DROPPED]
        for interval in found:
            if joined and joined[-1].end == interval.start:
                joined[-1] = Interval(joined[-1].start, interval.end, DROPPED)
            else:
                joined.append(interval)
        if joined != found:
            await con.execute("DELETE FROM closed_interval WHERE state = $1", DROPPED)
            await con.executemany(_INSERT, [_row(interval) for interval in joined])


def is_closed(intervals: Sequence[Interval], t_us: int) -> bool:
    """Return whether points of a time go into segments."""
    return any(interval.start <= t_us < interval.end for interval in intervals)


def partitions_beside(intervals: Sequence[Interval]) -> list[Partition]:
    """Return closed intervals as what new partitions of points must not reach into."""
    return [Partition(interval.start, interval.end) for interval in intervals]


async def seal(con: Connection, partition: Partition) -> None:
    """Close the interval of a partition of points, once no batch is on its way there."""
    async with con.transaction():
        await no_batch(con)
        await con.execute(_INSERT, *_row(Interval(partition.start, partition.end)))


def _row(interval: Interval) -> tuple[object, ...]:
    key = fact_id(interval.start, "closed interval", interval.start, interval.end)
    return as_uuid(key), moment(interval.start), moment(interval.end), interval.state
