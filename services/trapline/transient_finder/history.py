"""What the finder remembers of objects: their weighted mean in its own order, open episodes, and the newest points.

The newest points of all objects stand in one ring. Each names the one of the same object before it, so that the memory
is bounded by the length of the ring, not by the number of objects or points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable, Rows

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]

OBJECT = np.dtype(
    [
        ("object_id", "u1", (16,)),
        ("n", "u4"),
        ("flaring", "u1"),
        ("mean", "f8"),
        ("weight", "f8"),
        ("newest", "i8"),  # serial number of its newest point in the ring, plus one
    ]
)
POINT = np.dtype(
    [
        ("point_id", "u1", (16,)),
        ("t_us", "i8"),
        ("kind", "u1"),
        ("flux_peak", "f8"),
        ("flux_peak_err", "f8"),
        ("flux_int", "f8"),
        ("flux_int_err", "f8"),
        ("before", "i8"),  # serial number of the point before it, plus one
    ]
)
_TAKEN_OVER = ("point_id", "kind", "flux_peak", "flux_peak_err", "flux_int", "flux_int_err")


class Ring:
    """The newest points, each under a serial number that is never used again."""

    def __init__(self, capacity: int, table: GrowingTable | None = None, written: int = 0) -> None:
        self.capacity = capacity
        self.written = written
        self.table = GrowingTable(POINT) if table is None else table

    def write(self, points: Mapping[str, npt.NDArray[Any]], t_us: int, before: npt.NDArray[np.int64]) -> RowNumbers:
        """Append points, whose predecessors are `before`, and return their serial numbers."""
        serials = np.arange(self.written, self.written + len(before))
        rows = np.zeros(len(before), POINT)
        for name in _TAKEN_OVER:
            rows[name] = points[name]
        rows["t_us"], rows["before"] = t_us, before
        self.written += len(before)
        lacking = min(self.written, self.capacity) - len(self.table)
        if lacking > 0:
            self.table.extend(lacking)
        # Of more points than fit, the last ones stay.
        last = slice(max(len(before) - self.capacity, 0), None)
        self.table.rows[serials[last] % self.capacity] = rows[last]
        return serials

    def follow(self, newest: int, count: int) -> Rows:
        """Return up to `count` points of an object, oldest first, from the one that `newest` names."""
        found: list[int] = []
        while newest > max(self.written - self.capacity, 0) and len(found) < count:
            found.append((newest - 1) % self.capacity)
            newest = int(self.table.rows["before"][found[-1]])
        return self.table.rows[found[::-1]]


def _no_objects() -> GrowingTable:
    return GrowingTable(OBJECT)


@dataclass(slots=True)
class BandHistory:
    """Objects in one band."""

    table: GrowingTable = field(default_factory=_no_objects)
    row_of: dict[bytes, int] = field(default_factory=dict[bytes, int])

    @classmethod
    def of(cls, table: GrowingTable) -> BandHistory:
        """Return the history with these objects."""
        ids = table.rows["object_id"].tobytes()
        return cls(table, {ids[16 * row : 16 * row + 16]: row for row in range(len(table))})

    def rows(self, object_ids: npt.NDArray[np.uint8]) -> RowNumbers:
        """Return the rows of objects, appending those that are not known."""
        data = np.ascontiguousarray(object_ids).tobytes()
        ids = [data[i : i + 16] for i in range(0, len(data), 16)]
        known = len(self.row_of)
        rows = np.array([self.row_of.setdefault(id_, len(self.row_of)) for id_ in ids], np.intp)
        self.table.extend(len(self.row_of) - known)
        self.table.rows["object_id"][rows] = object_ids
        return rows

    def mean(self, rows: RowNumbers) -> tuple[Float, Float, npt.NDArray[np.int64]]:
        """Return (weighted mean, its error, number of points); mean and error are 0 where there is no point."""
        taken = self.table.rows[rows]
        n = taken["n"].astype(np.int64)
        error = np.power(taken["weight"], -0.5, out=np.zeros(len(rows)), where=n > 0)
        return taken["mean"].copy(), error, n

    def add(self, rows: RowNumbers, flux: Float, flux_err: Float) -> None:
        """Take one point into the mean of each of these objects (each at most once)."""
        after, weight = self.table.rows[rows], flux_err**-2.0
        after["n"] += 1
        after["weight"] += weight
        after["mean"] += (flux - after["mean"]) * (weight / after["weight"])
        self.table.rows[rows] = after

    def link(self, rows: RowNumbers, ring: Ring, points: Mapping[str, npt.NDArray[Any]], t_us: int) -> None:
        """Write one point of each of these objects into the ring."""
        self.table.rows["newest"][rows] = ring.write(points, t_us, self.table.rows["newest"][rows]) + 1

    def flaring(self, rows: RowNumbers) -> Bool:
        """Return which objects have an open episode."""
        return np.asarray(self.table.rows["flaring"][rows] != 0)

    def set_flaring(self, rows: RowNumbers, flaring: Bool) -> None:
        """Open and close episodes."""
        self.table.rows["flaring"][rows] = flaring
