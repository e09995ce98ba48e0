"""The newest points of each object in a band: what statistics that need more than running sums are made of.

They are newest by time and then by id, whatever their arrival, so that the history depends on no one's timing. Objects
with few points stand in small blocks: most objects of a deep survey are seen a few times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable, Rows

Float = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]

PLACE = np.dtype([("tier", "i4"), ("slot", "i4"), ("n", "i4")])  # tier plus one; 0 without points
_COLUMNS = (("t_us", "i8"), ("key", "i8"), ("flux", "f8"), ("flux_err", "f8"))
_SMALL_BLOCKS = (4, 16)


@dataclass(frozen=True, slots=True)
class Series:
    """Points of k objects that have n each, (k, n), in ascending order of time.

    Attributes
    ----------
    t_us
        Starts of their images, microseconds since 1970-01-01 UTC.
    flux, flux_err
        Integrated flux and its 1-sigma error, in the unit of the band; finite, errors positive.
    """

    t_us: Times
    flux: Float
    flux_err: Float


class History:
    """The newest points in one band; rows of objects as in the catalogue.

    Parameters
    ----------
    limit
        Points that are kept of each object.
    """

    def __init__(self, limit: int, places: GrowingTable | None = None, tiers: list[GrowingTable] | None = None) -> None:
        self.limit = limit
        self.sizes = (*(size for size in _SMALL_BLOCKS if size < limit), limit)
        self.places = places or GrowingTable(PLACE)
        self.tiers = tiers or [GrowingTable(block_of(size)) for size in self.sizes]
        self._free: list[list[int]] = [[] for _ in self.sizes]
        if places is not None:
            self._find_free()

    def add(self, objects: RowNumbers, t_us: int, keys: Times, flux: Float, flux_err: Float) -> None:
        """Take in one point of each of these objects (each at most once); `keys` decide between equal times."""
        if not len(objects):
            return
        self._make_room(objects)
        places = self.places.rows[objects]
        for tier, size in enumerate(self.sizes):
            mine = np.nonzero(places["tier"] == tier + 1)[0]
            if len(mine):
                block, slots = self.tiers[tier].rows, places["slot"][mine]
                full = places["n"][mine] == size
                place = np.where(full, _oldest(block[slots]), places["n"][mine])
                newer = ~full | _is_newer(t_us, keys[mine], block, slots, place)
                slots, place, chosen = slots[newer], place[newer], mine[newer]
                block["t_us"][slots, place], block["key"][slots, place] = t_us, keys[chosen]
                block["flux"][slots, place], block["flux_err"][slots, place] = flux[chosen], flux_err[chosen]
                self.places.rows["n"][objects[mine]] += ~full

    def inherit(self, parents: RowNumbers, children: RowNumbers) -> None:
        """Give each child a copy of the history of its parent."""
        known = parents < len(self.places)
        parents, children = parents[known], children[known]
        self._cover(children)
        for tier in range(len(self.sizes)):
            mine = self.places.rows["tier"][parents] == tier + 1
            old, new = parents[mine], children[mine]
            slots = self._take_slots(tier, len(new))
            self.tiers[tier].rows[slots] = self.tiers[tier].rows[self.places.rows["slot"][old]]
            self.places.rows[new] = self.places.rows[old]
            self.places.rows["slot"][new] = slots

    def series(self, objects: RowNumbers) -> Iterator[tuple[RowNumbers, Series]]:
        """Yield the points of objects in groups of equal numbers: which of them, and their series."""
        places = np.zeros(len(objects), PLACE)
        known = objects < len(self.places)
        places[known] = self.places.rows[objects[known]]
        for tier, n in np.unique(places[["tier", "n"]]).tolist():
            if n:
                which = np.nonzero((places["tier"] == tier) & (places["n"] == n))[0]
                points = self.tiers[tier - 1].rows[places["slot"][which]]
                t_us, key = points["t_us"][:, :n], points["key"][:, :n]
                order = np.lexsort((key, t_us), axis=-1)
                columns = (np.take_along_axis(points[name][:, :n], order, -1) for name in ("flux", "flux_err"))
                yield which, Series(np.take_along_axis(t_us, order, -1), *columns)

    def _make_room(self, objects: RowNumbers) -> None:
        """Move objects whose block is full into a larger one, if there is one."""
        self._cover(objects)
        for tier in range(len(self.sizes)):
            places = self.places.rows
            size_before = 0 if tier == 0 else self.sizes[tier - 1]
            moving = objects[(places["tier"][objects] == tier) & (places["n"][objects] == size_before)]
            slots = self._take_slots(tier, len(moving))
            if tier and len(moving):
                old = places["slot"][moving]
                block = self.tiers[tier].rows
                for name, _ in _COLUMNS:
                    block[name][slots, :size_before] = self.tiers[tier - 1].rows[name][old]
                self._free[tier - 1] += old.tolist()
            places["tier"][moving], places["slot"][moving] = tier + 1, slots

    def _cover(self, objects: RowNumbers) -> None:
        self.places.extend(max(0, int(objects.max(initial=-1)) + 1 - len(self.places)))

    def _take_slots(self, tier: int, count: int) -> RowNumbers:
        free = self._free[tier]
        used, self._free[tier] = free[:count], free[count:]
        return np.concatenate([np.array(used, np.intp), self.tiers[tier].extend(count - len(used))])

    def _find_free(self) -> None:
        places = self.places.rows
        for tier, table in enumerate(self.tiers):
            used = places["slot"][places["tier"] == tier + 1]
            self._free[tier] = np.setdiff1d(np.arange(len(table)), used).tolist()


def block_of(size: int) -> np.dtype[Any]:
    """Return the type of a block of so many points."""
    return np.dtype([(name, kind, (size,)) for name, kind in _COLUMNS])


def _oldest(blocks: Rows) -> RowNumbers:
    """Return the place of the oldest point of each full block: by time, then key."""
    first = blocks["t_us"].min(axis=1, keepdims=True)
    key = np.where(blocks["t_us"] == first, blocks["key"], np.iinfo(np.int64).max)
    return np.asarray(key.argmin(axis=1))


def _is_newer(t_us: int, keys: Times, block: Rows, slots: RowNumbers, place: RowNumbers) -> npt.NDArray[np.bool_]:
    t, key = block["t_us"][slots, place], block["key"][slots, place]
    return np.asarray((t_us > t) | ((t_us == t) & (keys > key)))
