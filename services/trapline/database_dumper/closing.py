"""Points of an interval that is over become segments, some thousand in a transaction, and their partition is dropped.

Sealed first: from then on its partition changes no more, and what comes late is a segment at once. Then its rows are
read back in the order of objects and written as segments that no one sees yet; the transaction of the last of them
makes readers see all of them, and the rows no more. A kill at any time leaves this where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.columns import read_columns
from trapline.common.store.measurements import POINT_TYPES
from trapline.common.store.segments import ARRAYS
from trapline.database_dumper.binary_copy import MIN_T_US
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.copying import copy
from trapline.database_dumper.intervals import DROPPED, SEALED, WRITTEN, closed_intervals, seal, tidy
from trapline.database_dumper.partitions import (
    Partition,
    drop_partitions,
    make_partitions,
    microseconds,
    moment,
    partitions_of,
)
from trapline.database_dumper.segment_rows import Points, segments_of
from trapline.schemas.columns import array_to_ids

SEGMENT_TABLES = ("segment_detected", "segment_monitored")
"""Of objects, and of positions that an operator watches."""
LEAST_ROWS = 10_000
"""that are rewritten after a batch: some tenths of a second"""
MOST_ROWS = 100_000
"""and no more, which bounds memory to some tens of megabytes"""

_NEXT = "SELECT * FROM closed_interval WHERE state = $1 ORDER BY since LIMIT 1 FOR UPDATE SKIP LOCKED"
_ROWS = """
SELECT _id, object, image, source, t, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, flux_int, flux_int_err,
    flux_peak, flux_peak_err, v, eta, snr, deruiter, flags, n, kind, link,
    coalesce(array_position($1::text[], band), 0)::smallint
FROM {table}
WHERE $2::uuid IS NULL OR (object, t, _id) > ($2::uuid, $3::timestamptz, $4::uuid)
ORDER BY object, t, _id LIMIT $5
"""
_BANDS = """
SELECT band FROM object_state GROUP BY band UNION SELECT band FROM image WHERE band IS NOT NULL GROUP BY band
"""


class Closing:
    """Closes one interval after the other, in steps.

    Parameters
    ----------
    config
        How long after its end an interval is closed, and how long points are kept.
    """

    def __init__(self, config: DumperConfig) -> None:
        self._config = config
        self._due = False
        self._seen: set[tuple[int, int]] = set()

    async def maintain(self, con: Connection) -> int:
        """Drop what has been in segments since the last time, and return how many partitions; not in a transaction.

        So readers that began before it was there have ended, or are waited for.
        """
        self._due = True
        written = {(i.start, i.end) for i in await closed_intervals(con) if i.state == WRITTEN}
        old, self._seen = written & self._seen, written
        dropped = await _drop(con, old) if old else 0
        await tidy(con)
        return dropped

    async def step(self, con: Connection, rows: int = LEAST_ROWS) -> bool:
        """Rewrite some rows, or seal the next interval; return whether there may be more to do."""
        if not self._due or not self._config.segment_after_s:
            return False
        # What fails waits for the next round.
        self._due = False
        self._due = await write_some(con, self._config, min(rows, MOST_ROWS)) or await self._seal_next(con)
        return self._due

    async def _seal_next(self, con: Connection) -> bool:
        newest = await con.fetchval("SELECT max(newest) FROM binning")
        if newest is None:
            return False
        last = microseconds(newest) - round(self._config.segment_after_s * 1e6)
        closed = {i.start for i in await closed_intervals(con)}
        for partition in await partitions_of(con, "point"):
            if partition.start > MIN_T_US and partition.end <= last and partition.start not in closed:
                await seal(con, partition)
                return True
        return False


async def _drop(con: Connection, intervals: Collection[tuple[int, int]]) -> int:
    names = [p.name for p in await partitions_of(con, "point") if (p.start, p.end) in intervals]
    dropped = await drop_partitions(con, "point", MIN_T_US, names)
    starts = [moment(start) for start, _ in intervals]
    query = "UPDATE closed_interval SET state = $1 WHERE state = $2 AND since = ANY($3::timestamptz[])"
    await con.execute(query, DROPPED, WRITTEN, starts)
    return dropped


async def write_some(con: Connection, config: DumperConfig, rows: int) -> bool:
    """Rewrite up to so many rows of the oldest interval that is sealed; return whether there was one."""
    async with con.transaction():
        row = await con.fetchrow(_NEXT, SEALED)
        if row is None:
            return False
        whole = (microseconds(row["since"]), microseconds(row["until"]))
        parts = [p for p in await partitions_of(con, "point") if (p.start, p.end) == whole]
        points = await _read(con, parts[0], row, rows) if parts else None
        if points is not None and len(points["times"]):
            await _write(con, config, points)
        if points is None or len(points["times"]) < rows:
            await con.execute(
                "UPDATE closed_interval SET state = $2, object = NULL, t = NULL, point = NULL WHERE _id = $1",
                row["_id"], WRITTEN,
            )  # fmt: skip
        else:
            last = (UUID(bytes=points[name][-1].tobytes()) for name in ("object", "point"))
            await con.execute(
                "UPDATE closed_interval SET object = $2, point = $3, t = $4 WHERE _id = $1",
                row["_id"], *last, moment(int(points["times"][-1])),
            )  # fmt: skip
    return True


async def _read(con: Connection, partition: Partition, row: asyncpg.Record, rows: int) -> dict[str, Any]:
    """Return the next rows of a partition, with the names of their bands."""
    after = (row["object"], row["t"], row["point"])
    bands = sorted(found["band"] for found in await con.fetch(_BANDS))
    query = _ROWS.format(table=partition.name)
    columns = await read_columns(con, POINT_TYPES, query, bands, *after, rows)
    if not columns["band"].all():
        found = await con.fetch(f"SELECT DISTINCT band FROM {partition.name}")  # noqa: S608
        bands = sorted(name["band"] for name in found)
        columns = await read_columns(con, POINT_TYPES, query, bands, *after, rows)
    columns["times"] = columns.pop("t")
    return {**columns, "band": columns["band"] - 1, "bands": [name.encode() for name in bands]}


async def _write(con: Connection, config: DumperConfig, points: dict[str, Any]) -> None:
    bands = points.pop("bands")
    await write_segments(con, config, points, bands, late=False)


async def write_segments(
    con: Connection, config: DumperConfig, points: Points, bands: Sequence[bytes], *, late: bool
) -> None:
    """Store points as segments, in the transaction of whoever needs them.

    Parameters
    ----------
    con, config
        A connection, and what says how wide partitions are.
    points, bands
        As `segments_of` takes them.
    late
        Whether they came after their interval was closed.
    """
    watched = await watched_of(con, points)
    edges: set[int] = set()
    for table, chosen in zip(SEGMENT_TABLES, (~watched, watched), strict=True):
        times = np.unique(points["times"][chosen]).tolist()
        # Statistics of arrays take minutes and help no query.
        known = await make_partitions(con, table, segment_width_us(config), times, unsampled=tuple(ARRAYS))
        edges |= {p.start for p in known}
    await copy(con, "segment", segments_of(points, bands, watched, sorted(edges), late=late))


async def reach_back(con: Connection, t_us: int) -> int:
    """Return where segments may begin that hold a time: none reaches over the beginning of its partition."""
    known = [p for table in SEGMENT_TABLES for p in await partitions_of(con, table)]
    return min((p.start for p in known if p.start <= t_us < p.end), default=t_us)


async def watched_of(con: Connection, points: Points) -> Any:
    """Return of which points the object is a position that an operator watches, (n,)."""
    ids = array_to_ids(points["object"])
    keys = [UUID(bytes=key) for key in dict.fromkeys(ids)]
    rows = await con.fetch("SELECT _id FROM object WHERE _id = ANY($1::uuid[]) AND kind = 1", keys)
    watched = {row["_id"].bytes for row in rows}
    return np.fromiter((i in watched for i in ids), bool, len(ids))


def segment_width_us(config: DumperConfig) -> int:
    """Return the width of partitions of segments: a thirtieth of the time that they are kept, or thirty days."""
    width = config.keep_points_s / 30 if config.keep_points_s else 30 * 86_400
    return round(max(width, config.point_partition_s) * 1e6)
