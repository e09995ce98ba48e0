"""All objects and points that a survey has made, in memory: what an alert is sent out with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy_healpix import HEALPix

from trapline.common.sky import separation_deg
from trapline.common.table import GrowingTable
from trapline.schemas.columns import array_to_ids
from trapline.survey.sky import NSIDE, cells_near

Rows = npt.NDArray[Any]
Numbers = npt.NDArray[np.intp]

OBJECT = np.dtype(
    [
        ("object_id", "u1", (16,)),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("n", "u4"),
        ("first", "i8"),
        ("kept", "i8"),
        ("room", "i8"),
        ("oldest", "i8"),
        ("founder", "i8"),
    ]
)
"""`n` points came; `kept` of them stand from row `first` on, where there is `room`; the oldest of these is of `oldest`.
`founder` is what the founding detection really was."""

POINT = np.dtype([("object", "i8"), ("t_us", "i8"), ("kind", "u1"), ("flux", "f8"), ("error", "f8")])

_GRID = HEALPix(NSIDE, order="nested")
_DEGREE: Any = units.deg
_LEAST_ROOM = 8
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Curves:
    """Points of some objects, each object's in one piece: nothing is copied until it is asked for.

    Attributes
    ----------
    points
        Rows (`POINT`) of all objects.
    first, kept
        Where each object's points begin, and how many they are; in the order of their coming.
    """

    points: Rows
    first: Numbers
    kept: Numbers

    def __len__(self) -> int:
        return int(self.kept.sum())

    def of(self, k: int) -> Rows:
        """Return the points of the k-th object, as a view."""
        return self.points[self.first[k] : self.first[k] + self.kept[k]]

    def rows(self) -> Rows:
        """Return all points, copied into one table."""
        copied: Rows = self.points[_spans(self.first, self.kept)]
        return copied


class History:
    """Objects by place, and the points of each in one piece of a table.

    An object whose piece is full gets one of twice the size: a point costs the same however many there are, and the
    points of an object are there at once.
    """

    def __init__(self) -> None:
        self.objects = GrowingTable(OBJECT)
        self.n_points = 0
        self._points = GrowingTable(POINT)
        self._number_of: dict[bytes, int] = {}
        self._in_cell: dict[int, list[Numbers]] = {}

    def add(self, t_us: int, arrays: Mapping[str, Rows]) -> Numbers:
        """Take the rows of a `lightcurves` record of an image that began at `t_us`; return the object of each."""
        numbers = self._numbers(arrays)
        self.n_points += len(numbers)
        # An object may have several points here: they stand in the order of the record.
        order = np.argsort(numbers, kind="stable")
        mine, begins, counts = np.unique(numbers[order], return_index=True, return_counts=True)
        self._make_room(mine, counts)
        objects, points = self.objects.rows, self._points.rows
        rank = np.arange(len(order)) - np.repeat(begins, counts)
        rows = np.repeat(objects["first"][mine] + objects["kept"][mine], counts) + rank
        points["object"][rows], points["t_us"][rows] = numbers[order], t_us
        for name, column in (("kind", "kind"), ("flux", "flux_int"), ("error", "flux_int_err")):
            points[name][rows] = arrays[column][order]
        objects["kept"][mine] += counts
        objects["n"][mine] += counts.astype("u4")
        objects["oldest"][mine] = np.minimum(objects["oldest"][mine], t_us)
        objects["ra_deg"][numbers], objects["dec_deg"][numbers] = arrays["object_ra_deg"], arrays["object_dec_deg"]
        return numbers

    def near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Numbers:
        """Return the objects within a cone."""
        parts = []
        for cell in cells_near(ra_deg, dec_deg, radius_deg).tolist():
            if cell in self._in_cell:
                self._in_cell[cell] = [np.concatenate(self._in_cell[cell])]
                parts += self._in_cell[cell]
        if not parts:
            return np.zeros(0, np.intp)
        found = np.concatenate(parts)
        rows = self.objects.rows[found]
        return found[separation_deg(rows["ra_deg"], rows["dec_deg"], ra_deg, dec_deg) <= radius_deg]

    def of(self, numbers: Numbers, since_us: int) -> Curves:
        """Return the points of some objects from a time on; what of them is older is forgotten."""
        objects = self.objects.rows
        self._forget(numbers[objects["oldest"][numbers] < since_us], since_us)
        return Curves(self._points.rows, objects["first"][numbers], objects["kept"][numbers])

    def number_of(self, object_id: bytes) -> int | None:
        """Return the number of an object; None when it is not known."""
        return self._number_of.get(object_id)

    def _numbers(self, arrays: Mapping[str, Rows]) -> Numbers:
        ids = array_to_ids(arrays["object_id"])
        new: dict[bytes, int] = {}
        for row, object_id in enumerate(ids):
            if object_id not in self._number_of:
                new.setdefault(object_id, row)
        added = self.objects.extend(len(new))
        self._number_of.update(zip(new, added.tolist(), strict=True))
        self._found(added, arrays, np.fromiter(new.values(), np.intp, len(new)))
        return np.fromiter((self._number_of[i] for i in ids), np.intp, len(ids))

    def _found(self, added: Numbers, arrays: Mapping[str, Rows], rows: Numbers) -> None:
        if not len(added):
            return
        objects = self.objects.rows
        objects["object_id"][added] = arrays["object_id"][rows]
        objects["founder"][added], objects["oldest"][added] = -1, _NEVER
        ra, dec = arrays["object_ra_deg"][rows], arrays["object_dec_deg"][rows]
        cells = _GRID.lonlat_to_healpix(ra * _DEGREE, dec * _DEGREE)
        for cell in np.unique(cells):
            self._in_cell.setdefault(int(cell), []).append(added[cells == cell])

    def _make_room(self, numbers: Numbers, more: Numbers) -> None:
        """Give those objects whose piece is too small for some points more a larger one."""
        objects = self.objects.rows
        full = objects["kept"][numbers] + more > objects["room"][numbers]
        numbers, more = numbers[full], more[full]
        room = np.maximum(2 * (objects["kept"][numbers] + more), _LEAST_ROOM)
        first = len(self._points) + np.cumsum(room) - room
        self._points.extend(int(room.sum()))
        kept = objects["kept"][numbers]
        self._move(numbers, _spans(objects["first"][numbers], kept), first, kept)
        objects["room"][numbers] = room

    def _forget(self, numbers: Numbers, since_us: int) -> None:
        objects, points = self.objects.rows, self._points.rows
        rows = _spans(objects["first"][numbers], objects["kept"][numbers])
        young = points["t_us"][rows] >= since_us
        whose = np.repeat(np.arange(len(numbers)), objects["kept"][numbers])
        kept, rows = np.bincount(whose[young], minlength=len(numbers)), rows[young]
        self._move(numbers, rows, objects["first"][numbers], kept)
        rows = _spans(objects["first"][numbers], kept)
        objects["oldest"][numbers] = _NEVER
        np.minimum.at(objects["oldest"], points["object"][rows], points["t_us"][rows])

    def _move(self, numbers: Numbers, rows: Numbers, first: Numbers, kept: Numbers) -> None:
        """Put rows, which are in the order of their objects, where these now begin."""
        objects, points = self.objects.rows, self._points.rows
        points[_spans(first, kept)] = points[rows]
        objects["first"][numbers], objects["kept"][numbers] = first, kept


def _spans(first: Numbers, count: Numbers) -> Numbers:
    """Return the numbers of some pieces of a table, one piece after the other."""
    before = np.cumsum(count) - count
    return np.repeat(first - before, count) + np.arange(int(count.sum()))
