"""Points of closed intervals: they become segments of their own, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import POSTGRES_EPOCH_US
from trapline.common.store.segments import ARRAYS
from trapline.database_dumper.binary_copy import Column
from trapline.database_dumper.closing import reach_back, watched_of, write_segments
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.lightcurve_rows import Block
from trapline.database_dumper.partitions import moment
from trapline.schemas.columns import array_to_ids

_RENAMED = {"point": "point_id", "source": "source_id", "object": "object_id"}
_STORED = """
SELECT _id FROM point WHERE _id = ANY($1::uuid[]) AND t = ANY($4::timestamptz[])
UNION ALL
SELECT id FROM segment CROSS JOIN LATERAL unnest(segment.point) AS id
WHERE segment.object = ANY($2::uuid[]) AND segment.t BETWEEN $5 AND $3 AND segment.t_last >= $4[1]
    AND id = ANY($1::uuid[])
"""


async def store_late(
    con: Connection, config: DumperConfig, blocks: Sequence[Block], since: dict[str, int]
) -> set[bytes]:
    """Store points whose intervals are closed, and return the ids of those that were not there.

    Parameters
    ----------
    con
        In the transaction of their batch, which holds the lock of their datasets.
    config
        What says how wide partitions are.
    blocks
        The points.
    since
        By tier, from when on points are kept; what is older counts as new: nothing tells whether it was there.
    """
    if not blocks:
        return set()
    points, bands = _joined(blocks)
    ids = array_to_ids(points["point"])
    stored = await _stored(con, points, ids)
    fresh = np.zeros(len(ids), bool)
    for row, point in enumerate(ids):
        fresh[row] = point not in stored
        stored.add(point)
    new = {point for point, is_new in zip(ids, fresh, strict=True) if is_new}
    watched = await watched_of(con, points)
    kept = fresh & (points["times"] >= np.where(watched, since["monitored"], since["point"]))
    if kept.any():
        await write_segments(con, config, {name: column[kept] for name, column in points.items()}, bands, late=True)
    return new


async def _stored(con: Connection, points: dict[str, Column], ids: Sequence[bytes]) -> set[bytes]:
    objects = {UUID(bytes=key) for key in array_to_ids(points["object"])}
    times = [moment(t) for t in np.unique(points["times"]).tolist()]
    first = moment(await reach_back(con, int(points["times"].min())))
    rows = await con.fetch(_STORED, [UUID(bytes=i) for i in ids], list(objects), times[-1], times, first)
    return {row[0].bytes for row in rows}


def _joined(blocks: Sequence[Block]) -> tuple[dict[str, Column], list[bytes]]:
    """Return the points of blocks as columns of segments, and the names of their bands."""
    bands = sorted({block.band for block in blocks})
    tables: list[dict[str, Any]] = []
    for block in blocks:
        n = len(block.points["kind"])
        given = {name: block.points[_RENAMED.get(name, name)] for name in ("object", *ARRAYS)
                 if name not in ("image", "times")}  # fmt: skip
        tables.append({
            **given,
            "n": np.minimum(given["n"], np.iinfo(np.int32).max),
            "flags": given["flags"].view(np.int32),
            "image": np.tile(np.frombuffer(block.image, np.uint8), (n, 1)),
            "times": np.full(n, block.t + POSTGRES_EPOCH_US),
            "band": np.full(n, bands.index(block.band)),
        })  # fmt: skip
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}, bands
