"""All objects and points that a survey has made, in memory: what an alert is sent out with."""

from __future__ import annotations

from collections.abc import Mapping
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
    [("object_id", "u1", (16,)), ("ra_deg", "f8"), ("dec_deg", "f8"), ("n", "u4"), ("newest", "i8"), ("founder", "i8")]
)
"""`newest` is the row of the object's newest point, `founder` what its founding detection really was."""

POINT = np.dtype([("object", "i8"), ("t_us", "i8"), ("kind", "u1"), ("flux", "f8"), ("error", "f8"), ("older", "i8")])
"""`older` is the row of the same object's point before, -1 for its first."""

_GRID = HEALPix(NSIDE, order="nested")
_DEGREE: Any = units.deg


class History:
    """Objects by place, and the points of each as a chain: both grow by what is added, however much there is."""

    def __init__(self) -> None:
        self.objects = GrowingTable(OBJECT)
        self.points = GrowingTable(POINT)
        self._number_of: dict[bytes, int] = {}
        self._in_cell: dict[int, list[Numbers]] = {}

    def add(self, t_us: int, arrays: Mapping[str, Rows]) -> Numbers:
        """Take the rows of a `lightcurves` record of an image that began at `t_us`; return the object of each."""
        numbers = self._numbers(arrays)
        rows = self.points.extend(len(numbers))
        points, objects = self.points.rows, self.objects.rows
        points["object"][rows], points["t_us"][rows] = numbers, t_us
        for name, column in (("kind", "kind"), ("flux", "flux_int"), ("error", "flux_int_err")):
            points[name][rows] = arrays[column]
        # An object may have several points here: each is chained to the one before.
        order = np.argsort(numbers, kind="stable")
        chained = numbers[order]
        first = np.append(True, chained[1:] != chained[:-1])[: len(chained)]
        before = np.append(-1, rows[order][:-1])[: len(chained)]
        points["older"][rows[order]] = np.where(first, objects["newest"][chained], before)
        last = np.append(first[1:], True)[: len(chained)]
        objects["newest"][chained[last]] = rows[order][last]
        np.add.at(objects["n"], numbers, 1)
        objects["ra_deg"][numbers], objects["dec_deg"][numbers] = arrays["object_ra_deg"], arrays["object_dec_deg"]
        return numbers

    def near(self, ra_deg: float, dec_deg: float, radius_deg: float) -> Numbers:
        """Return the objects within a cone."""
        parts = [part for cell in cells_near(ra_deg, dec_deg, radius_deg) for part in self._in_cell.get(int(cell), ())]
        if not parts:
            return np.zeros(0, np.intp)
        found = np.concatenate(parts)
        rows = self.objects.rows[found]
        return found[separation_deg(rows["ra_deg"], rows["dec_deg"], ra_deg, dec_deg) <= radius_deg]

    def of(self, numbers: Numbers, since_us: int) -> Rows:
        """Return the points (`POINT`) of some objects from a time on, in no order."""
        points = self.points.rows
        current, found = self.objects.rows["newest"][numbers], [np.zeros(0, np.int64)]
        while len(current := current[current >= 0]):
            found.append(current)
            current = points["older"][current]
        chosen = points[np.concatenate(found)]
        return chosen[chosen["t_us"] >= since_us]

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
        objects["newest"][added] = objects["founder"][added] = -1
        ra, dec = arrays["object_ra_deg"][rows], arrays["object_dec_deg"][rows]
        cells = _GRID.lonlat_to_healpix(ra * _DEGREE, dec * _DEGREE)
        for cell in np.unique(cells):
            self._in_cell.setdefault(int(cell), []).append(added[cells == cell])
