"""Rows of `segment`, from points as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trapline.common.store.bins import halves
from trapline.common.store.segments import ARRAYS, array_layout, fill_array, server_times
from trapline.database_dumper.binary_copy import Column
from trapline.database_dumper.core import Copied

MOST_POINTS = 992
"""in a segment: their arrays just fill whole pieces of what the server keeps beside the table"""

COLUMNS = ("_id", "object", "t", "t_last", "n_points", "monitored", "late", "band", *ARRAYS)

Points = Mapping[str, Column]
"""Columns of `ARRAYS`, with `times` in microseconds since 1970, and `object` and `band` (a number)."""


def segments_of(
    points: Points, bands: Sequence[bytes], monitored: Column, edges: Sequence[int], *, late: bool
) -> Copied:
    """Return the segments of some points: each of one object and band, in the order of time.

    Parameters
    ----------
    points
        n points in any order.
    bands
        Names by number.
    monitored
        Of which points the object is one that an operator watches, (n,).
    edges
        Times at which partitions begin, sorted, in microseconds since 1970: no segment reaches over one.
    late
        Whether they came after their interval was closed.
    """
    if not len(points["times"]):
        return Copied()
    part = np.searchsorted(np.array(edges, np.int64), points["times"], "right")
    high, low = halves(points["object"]).T
    order = np.lexsort((*halves(points["point"]).T[::-1], points["times"], part, points["band"], low, high))
    new = np.ones(len(order), bool)
    new[1:] = False
    for key in (high, low, points["band"], part):
        new[1:] |= key[order][1:] != key[order][:-1]
    points = {**points, "times": server_times(points["times"])}
    first = _cut(np.flatnonzero(new), len(order))
    length = np.diff(np.append(first, len(order)))
    return Copied(COLUMNS, list(_pieces(points, order, first, length, bands, monitored, late=late)))


def _cut(first: Column, total: int) -> Column:
    """Return where segments begin, of where groups do: none is longer than `MOST_POINTS`."""
    length = np.diff(np.append(first, total))
    parts = -(-length // MOST_POINTS)
    number = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    cut: Column = np.repeat(first, parts) + number * MOST_POINTS
    return cut


def _pieces(
    points: Points,
    order: Column,
    first: Column,
    length: Column,
    bands: Sequence[bytes],
    monitored: Column,
    *,
    late: bool,
) -> Iterator[bytes]:
    """Yield rows for COPY: those of equal length and band are made at once."""
    band = points["band"][order[first]]
    for number in np.unique(band).tolist():
        for size in np.unique(length[band == number]).tolist():
            begin = first[(band == number) & (length == size)]
            rows = order[begin[:, None] + np.arange(size)]
            yield _encoded(points, rows, bands[number], monitored[rows[:, 0]], late=late)


def _encoded(points: Points, rows: Column, band: bytes, monitored: Column, *, late: bool) -> bytes:
    """Return segments of equal length; `rows` are the numbers of their points, (segments, length)."""
    count, length = rows.shape
    times = points["times"]
    scalars: dict[str, tuple[str, Any]] = {
        "_id": ("V16", _ids(points["point"][rows[:, 0]])),
        "object": ("V16", _ids(points["object"][rows[:, 0]])),
        "t": (">i8", times[rows[:, 0]]),
        "t_last": (">i8", times[rows[:, -1]]),
        "n_points": (">i4", length),
        "monitored": ("?", monitored),
        "late": ("?", late),
        "band": (f"V{len(band)}", np.void(band)) if band else ("V0", b""),
    }  # fmt: skip
    fields: list[tuple[Any, ...]] = [("fields in row", ">i2")]
    for name, (kind, _) in scalars.items():
        fields.append((f"{name} length", ">i4"))
        if np.dtype(kind).itemsize:
            fields.append((name, kind))
    for name in ARRAYS:
        fields += array_layout(name, length)
    table = np.empty(count, np.dtype(fields))
    table["fields in row"] = len(COLUMNS)
    for name, (kind, value) in scalars.items():
        table[f"{name} length"] = np.dtype(kind).itemsize
        if np.dtype(kind).itemsize:
            table[name] = value
    for name in ARRAYS:
        fill_array(table, name, points[name][rows])
    return table.tobytes()


def _ids(ids: Column) -> Column:
    found: Column = np.ascontiguousarray(ids).view("V16")[:, 0]
    return found
