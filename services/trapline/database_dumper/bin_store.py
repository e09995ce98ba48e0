"""Bins in the database: open ones read back, closed ones stored, late points merged into what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import STORED_TYPES, Rows, bins_of_points, ids_of, merged, stored_bins
from trapline.common.store.bins import WIDTHS_US as TIER_WIDTHS_US
from trapline.common.store.columns import in_order, read_columns
from trapline.common.store.segments import OPEN, read_segments
from trapline.database_dumper.binary_copy import encode_rows
from trapline.database_dumper.closing import reach_back
from trapline.database_dumper.copying import copy, copy_over
from trapline.database_dumper.core import Copied
from trapline.database_dumper.lightcurve_rows import bin_fields, state_ids
from trapline.database_dumper.open_bins import TIERS, Changes, OpenBins
from trapline.database_dumper.partitions import BIN_WIDTHS_US, make_partitions, microseconds, moment
from trapline.schemas.columns import array_to_ids

_POINTS = f"""
SELECT point.object, point.t, flux_int, flux_int_err, point.kind,
    array_position($2::text[], point.band)::smallint - 1::smallint
FROM point JOIN object ON object._id = point.object
WHERE object.dataset = $1 AND point.t >= $3::timestamptz AND {OPEN}
"""  # noqa: S608
_POINT_TYPES = {"object": "id", "t": "t", "flux": "f8", "error": "f8", "kind": "i2", "band": "i2"}
_OF_OBJECT = "JOIN object ON object._id = segment.object"
_LATE = "object.dataset = $2 AND segment.t_last >= $3::timestamptz AND segment.t >= $4::timestamptz"
_COLUMNS = "b.object, b.t, flux_mean, flux_err, flux_min, flux_max, chi2, n, n_forced"
_BINS = """
SELECT {columns}, array_position($2::text[], band)::smallint - 1::smallint
FROM bin_{tier} AS b JOIN object ON object._id = b.object
WHERE object.dataset = $1 AND b.t >= $3::timestamptz
"""
_STORED = """
SELECT {columns}, array_position($1::text[], band)::smallint - 1::smallint
FROM unnest($2::uuid[], $3::timestamptz[]) AS late (_id, t) JOIN bin_{tier} AS b USING (_id, t)
"""
_RENEW = (
    "(_id, t) DO UPDATE SET flux_mean = excluded.flux_mean, flux_err = excluded.flux_err, "
    "flux_min = excluded.flux_min, flux_max = excluded.flux_max, chi2 = excluded.chi2, n = excluded.n, "
    "n_forced = excluded.n_forced"
)


class Bands:
    """Names of bands by number, as bins count them."""

    def __init__(self) -> None:
        self.names: list[bytes] = []

    def number(self, name: bytes) -> int:
        """Return the number of a band; a new one is added."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    @property
    def texts(self) -> list[str]:
        """Names as text, by number."""
        return [name.decode() for name in self.names]


async def read_open_bins(con: Connection, dataset: UUID, row: asyncpg.Record, bands: Bands) -> OpenBins:
    """Return the open bins of a dataset, of what is stored after its marks; `row` is its row of `binning`."""
    marks = {tier: microseconds(row[tier]) for tier in TIERS}
    since = moment(marks["minute"])
    for table, tier in (("point", "minute"), ("bin_minute", "hour"), ("bin_hour", "day")):
        for found in await con.fetch(f"SELECT DISTINCT band FROM {table} WHERE t >= $1", moment(marks[tier])):  # noqa: S608
            bands.number(found["band"].encode())
    points = await read_columns(con, _POINT_TYPES, _POINTS, dataset, bands.texts, since)
    chunks: dict[str, Sequence[Rows]] = {"minute": [_as_bins(points), *await _in_segments(con, dataset, since, bands)]}
    for tier, finer in zip(TIERS[1:], TIERS[:-1], strict=True):
        query = _BINS.format(columns=_COLUMNS, tier=finer)
        rows = await read_columns(con, STORED_TYPES, query, dataset, bands.texts, moment(marks[tier]))
        chunks[tier] = [stored_bins(rows)]
    return OpenBins(marks, microseconds(row["newest"]), chunks)


async def _in_segments(con: Connection, dataset: UUID, since: datetime, bands: Bands) -> list[Rows]:
    """Return the points after a time whose intervals are closed: those of a dataset that began or ended in the past."""
    if not await con.fetchval("SELECT count(*) FROM closed_interval WHERE until > $1", since):
        return []
    first = moment(await reach_back(con, microseconds(since)))
    for found in await con.fetch("SELECT DISTINCT band FROM segment WHERE t_last >= $1 AND t >= $2", since, first):
        bands.number(found["band"].encode())
    points = await read_segments(
        con, ("times", "flux_int", "flux_int_err", "kind"), _LATE, bands.texts, dataset, since, first, joins=_OF_OBJECT
    )
    points = in_order(points, points["times"] >= microseconds(since))
    points["band"] = points["band"] - 1
    return [_as_bins({**points, "t": points["times"], "flux": points["flux_int"], "error": points["flux_int_err"]})]


def _as_bins(points: Mapping[str, Rows]) -> Rows:
    return bins_of_points(
        points["object"], points["band"], points["t"], points["flux"], points["error"], points["kind"] != 0
    )


async def store_changes(con: Connection, changes: Changes, bands: Bands, since: Mapping[str, int]) -> int:
    """Store what a batch changed, and return how many late bins came after their tier was dropped there."""
    expired = 0
    for tier in TIERS:
        table = f"bin_{tier}"
        late = changes.late[tier]
        keep = late["t"] >= since[tier]
        expired += int((~keep).sum())
        closed = changes.closed[tier]
        closed, late = closed[closed["t"] >= since[tier]], late[keep]
        if len(closed) or len(late):
            times = np.unique(np.concatenate([closed["t"], late["t"]]) // TIER_WIDTHS_US["day"] * TIER_WIDTHS_US["day"])
            await make_partitions(con, table, BIN_WIDTHS_US[table], times.tolist())
        await copy(con, table, _copied(closed, bands))
        if len(late):
            stored = await _stored(con, tier, late, bands)
            await copy_over(con, table, _copied(merged([stored, late], TIER_WIDTHS_US[tier]), bands), _RENEW)
    return expired


async def _stored(con: Connection, tier: str, late: Rows, bands: Bands) -> Rows:
    """Return the stored bins into which late ones are merged."""
    keys: list[UUID] = []
    times = []
    for number in np.unique(late["band"]):
        rows = late[late["band"] == number]
        keys += [UUID(bytes=i) for i in array_to_ids(state_ids(ids_of(rows), bands.names[number]))]
        times += [moment(t) for t in rows["t"].tolist()]
    query = _STORED.format(columns=_COLUMNS, tier=tier)
    return stored_bins(await read_columns(con, STORED_TYPES, query, bands.texts, keys, times))


def _copied(rows: Rows, bands: Bands) -> Copied:
    tables = list(bin_fields(rows, bands.names))
    return Copied(tuple(tables[0]) if tables else (), [encode_rows(fields) for fields in tables])
