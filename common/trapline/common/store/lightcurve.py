"""Lightcurves at several resolutions: points where they are kept, bins where only those are left or wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import BIN, STORED_TYPES, WIDTHS_US, Rows, bins_of_points, halves, merged, stored_bins
from trapline.common.store.columns import Array, Columns, in_order, joined, read_columns
from trapline.common.store.measurements import POINT_TYPES
from trapline.common.store.segments import OPEN, VISIBLE
from trapline.common.store.series import (
    ALWAYS,
    Lightcurve,
    Series,
    UnknownBandError,
    Window,
    all_bands,
    find_series,
    known,
    read_points,
)
from trapline.schemas.columns import Kind, ids_to_array

Resolution = Literal["auto", "point", "minute", "hour", "day"]
RESOLUTIONS: tuple[Resolution, ...] = ("point", "minute", "hour", "day")
"""finest first"""

MOST_POINTS = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_BINS = """
SELECT object, t, flux_mean, flux_err, flux_min, flux_max, chi2, n, n_forced,
    coalesce(array_position($2::text[], band), 0)::smallint
FROM bin_{tier}
WHERE object = ANY($1::uuid[]) AND ($3::text IS NULL OR band = $3) AND t >= $4::timestamptz AND t < $5::timestamptz
"""
_COUNT = """
SELECT count(*) FROM (
    SELECT FROM {table}
    WHERE object = ANY($1::uuid[]) AND t >= $2::timestamptz AND t < $3::timestamptz AND ($4::text IS NULL OR band = $4)
        AND {condition}
    LIMIT $5
) AS rows
"""
# Of a segment at the edge of the window the points inside are counted.
_COUNT_IN_SEGMENTS = f"""
SELECT coalesce(sum(CASE WHEN t >= $2::timestamptz AND t_last < $3::timestamptz THEN n_points ELSE (
    SELECT count(*) FROM unnest(times) AS at WHERE at >= $2 AND at < $3
) END), 0)::bigint
FROM segment
WHERE object = ANY($1::uuid[]) AND t_last >= $2 AND t < $3 AND ($4::text IS NULL OR band = $4) AND {VISIBLE}
"""  # noqa: S608
_MARKS = """
SELECT minute, hour, day FROM binning WHERE dataset = (SELECT dataset FROM object WHERE _id = ANY($1) LIMIT 1)
"""


@dataclass(frozen=True, slots=True)
class Stages:
    """Since when each resolution is kept, and until when points are in its bins."""

    since: Mapping[str, datetime]
    until: Mapping[str, datetime]


async def lightcurve(
    con: Connection,
    object_id: bytes,
    band: str | None = None,
    window: Window = ALWAYS,
    resolution: Resolution = "auto",
    most: int = MOST_POINTS,
) -> Lightcurve:
    """Return the lightcurve of an object, with what it inherited when it was split from another, as of one moment.

    Where rows of that resolution are no longer kept, those of the next coarser one stand in their place. The end, which
    is not binned yet, is binned here.

    Parameters
    ----------
    con
        A connection that is not in a transaction.
    object_id, band, window
        Whose, in which band (None: all), and when. Bins that begin inside the window are returned whole.
    resolution
        ``auto`` is the finest that gives no more than `most` rows.
    most
        How many rows ``auto`` may give; of days there may be more.

    Raises
    ------
    LookupError
        When no object has this id, or it has no points in this band: the text says which bands it has.
    ValueError
        When there is no such resolution.
    """
    if resolution not in ("auto", *RESOLUTIONS):
        raise ValueError(f"there is no resolution {resolution!r}; there are auto, {', '.join(RESOLUTIONS)}")
    async with con.transaction(isolation="repeatable_read", readonly=True):
        series = await find_series(con, object_id, band)
        stages = await _stages(con, series)
        wanted = _Wanted(series, series.bands, band, window, stages)
        tier = await _finest(con, wanted, most) if resolution == "auto" else resolution
        curve = await _read(con, wanted, tier)
        while resolution == "auto" and len(curve) > most and tier != RESOLUTIONS[-1]:
            # What is not binned yet was not counted.
            tier = RESOLUTIONS[RESOLUTIONS.index(tier) + 1]
            curve = await _read(con, wanted, tier)
    return curve


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked for; `bands` are the names that rows know by number."""

    series: Series
    bands: Sequence[str]
    band: str | None
    window: Window
    stages: Stages

    def part(self, since: datetime, until: datetime) -> _Wanted:
        return replace(self, window=Window(since, until))


async def _stages(con: Connection, series: Series) -> Stages:
    since = {row["name"]: row["since"] for row in await con.fetch("SELECT name, since FROM tier")}
    if await con.fetchval("SELECT kind = 1 FROM object WHERE _id = $1", UUID(bytes=series.object_id)):
        since["point"] = since["monitored"]
    row = await con.fetchrow(_MARKS, series.objects)
    first, _ = ALWAYS.bounds()
    return Stages(since, {tier: row[tier] if row else first for tier in WIDTHS_US})


async def _finest(con: Connection, wanted: _Wanted, most: int) -> Resolution:
    """Return the finest resolution that gives no more than `most` rows, or the coarsest."""
    for tier in RESOLUTIONS[:-1]:
        left = most
        for level, part in _levels(wanted, tier):
            left -= await _count(con, level, part, left + 1)
            if left < 0:
                break
        else:
            return tier
    return RESOLUTIONS[-1]


async def _count(con: Connection, level: Resolution, part: _Wanted, enough: int) -> int:
    """Return how many rows of a tier there are; of many, that there are `enough`."""
    values = (part.series.objects, *part.window.bounds(), part.band)
    if level != "point":
        query = _COUNT.format(table=f"bin_{level}", condition="true")
        return int(await con.fetchval(query, *values, enough))
    found = int(await con.fetchval(_COUNT_IN_SEGMENTS, *values))
    if found < enough:
        found += await con.fetchval(_COUNT.format(table="point", condition=OPEN), *values, enough - found)
    return found


def _levels(wanted: _Wanted, tier: Resolution) -> Iterator[tuple[Resolution, _Wanted]]:
    """Yield a tier with the part of a window in which it is kept, then the coarser ones that stand in for it before."""
    first, upper = wanted.window.bounds()
    for level in RESOLUTIONS[RESOLUTIONS.index(tier) :]:
        lower = max(first, wanted.stages.since[level])
        if lower < upper:
            yield level, wanted.part(lower, upper)
            upper = lower


async def _read(con: Connection, wanted: _Wanted, tier: Resolution) -> Lightcurve:
    """Return rows of a tier and, where it is gone, of coarser ones."""
    try:
        return await _rows(con, wanted, tier)
    except UnknownBandError:
        return await _rows(con, replace(wanted, bands=await all_bands(con, wanted.series)), tier)


async def _rows(con: Connection, wanted: _Wanted, tier: Resolution) -> Lightcurve:
    parts = []
    for level, part in _levels(wanted, tier):
        if level == "point":
            parts.append(_of_points(await _points(con, part)))
        else:
            parts.append(_of_bins(await _binned(con, part, level), wanted.series.object_id, WIDTHS_US[level]))
    if not parts:
        parts = [_of_bins(np.zeros(0, BIN), wanted.series.object_id, 0)]
    table = joined(parts)
    series, order = wanted.series, np.lexsort((table["point"][:, -1], table["band"], table["t"]))
    units = [series.units.get(band) for band in wanted.bands]
    return Lightcurve(series.object_id, wanted.bands, units, in_order(table, order))


async def _binned(con: Connection, wanted: _Wanted, level: str) -> Rows:
    """Return the bins of a tier that begin in a window: stored ones, and those of what is not stored in it yet."""
    width = WIDTHS_US[level]
    first, last = (_ceiling(t, width) for t in wanted.window.bounds())
    parts = []
    for tier in reversed(list(WIDTHS_US)[: list(WIDTHS_US).index(level) + 1]):
        end = min(last, wanted.stages.until[tier])
        if first < end:
            values = (wanted.series.objects, list(wanted.bands), wanted.band, first, end)
            columns = await read_columns(con, STORED_TYPES, _BINS.format(tier=tier), *values)
            parts.append(stored_bins({**columns, "band": known(columns["band"])}))
            first = end
    if first < last:
        points = await _points(con, wanted.part(first, last))
        flux, error = points["flux_int"], points["flux_int_err"]
        forced = points["kind"] != Kind.BLIND
        parts.append(bins_of_points(points["object"], points["band"], points["t"], flux, error, forced))
    rows = merged(parts, 1)
    # What an ancestor was measured is the object's own past.
    rows["high"], rows["low"] = halves(ids_to_array([wanted.series.object_id]))[0]
    return merged([rows], width)


async def _points(con: Connection, wanted: _Wanted) -> dict[str, Array]:
    return await read_points(con, wanted.series, wanted.bands, wanted.band, wanted.window)


def _of_points(points: Columns) -> Columns:
    forced, flux = points["kind"] != Kind.BLIND, points["flux_int"]
    n = len(flux)
    return {
        **points, "width_s": np.zeros(n), "flux_min": flux, "flux_max": flux, "chi2": np.zeros(n),
        "n_points": np.ones(n, np.int32), "n_forced": forced.astype(np.int32),
    }  # fmt: skip


def _of_bins(rows: Rows, object_id: bytes, width_us: int) -> Columns:
    empty = {"id": np.zeros((len(rows), 16), np.uint8), "t": rows["t"]}
    table = {name: empty.get(kind, _blank(kind, len(rows))) for name, kind in POINT_TYPES.items()}
    table["object"] = np.tile(np.frombuffer(object_id, np.uint8), (len(rows), 1))
    table["band"] = rows["band"].astype(np.int16)
    table["flux_int"], table["flux_int_err"] = rows["flux_mean"], 1 / np.sqrt(rows["weight"])
    table["kind"] = np.where(rows["n_forced"] == rows["n"], Kind.FORCED, Kind.BLIND).astype(np.int16)
    extremes = {name: rows[name] for name in ("flux_min", "flux_max", "chi2", "n_forced")}
    return {**table, **extremes, "width_s": np.full(len(rows), width_us / 1e6), "n_points": rows["n"]}


def _blank(kind: str, n: int) -> Array:
    return np.full(n, np.nan, kind) if kind in ("f8", "f4") else np.zeros(n, {"id": "u1", "t": "i8"}.get(kind, kind))


def _ceiling(time: datetime, width_us: int) -> datetime:
    """Return the first multiple of a width that is not before a time; the ends of all time as they are."""
    width = timedelta(microseconds=width_us)
    rest = (time - _EPOCH) % width
    return time if time in ALWAYS.bounds() or not rest else time + (width - rest)
