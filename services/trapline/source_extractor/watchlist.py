"""The watchlist as an extractor holds it: the newest version of what the associators want measured in every image.

It is a cache. A position that is missing, or is not the newest, costs a request on `remeasure`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from trapline.common.region import bounding_cone
from trapline.common.sky import unit_vectors
from trapline.common.table import GrowingTable
from trapline.schemas.columns import Array, array_to_ids
from trapline.schemas.image import Image
from trapline.source_extractor.watched import Watched

LEAVES = 255
"""kind of a row that takes its object off the list"""
_ROW = np.dtype(
    [("object_id", "u1", (16,)), ("kind", "u1"), ("ra_deg", "f8"), ("dec_deg", "f8"), ("vector", "f8", (3,))]
)
_POSITION = ("object_id", "ra_deg", "dec_deg", "kind")
_SLACK = 1024  # rows that may be off the list before it is made anew


class Watchlist:
    """Positions by object. `version` is that of the last record taken; None before the first."""

    def __init__(self) -> None:
        self.version: int | None = None
        self._table = GrowingTable(_ROW)
        self._row_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def update(self, version: int, arrays: Mapping[str, Array], *, full: bool) -> None:
        """Take a record: the whole list, or what changed; `SchemaError` when a column is wrong."""
        changed = Watched.of(arrays)
        if full:
            self._table, self._row_of = GrowingTable(_ROW), {}
        ids, leaves = array_to_ids(changed.object_id), changed.kind == LEAVES
        for i in np.nonzero(leaves)[0].tolist():
            row = self._row_of.pop(ids[i], None)
            if row is not None:
                self._table.rows["kind"][row] = LEAVES
        self._put([ids[i] for i in np.nonzero(~leaves)[0].tolist()], changed.take(~leaves))
        if len(self._table) > 2 * len(self._row_of) + _SLACK:
            self._compact()
        self.version = version

    def near(self, image: Image) -> Watched:
        """Return the positions that an image covers, and perhaps some more."""
        rows = self._table.rows
        kept = rows["kind"] != LEAVES
        if image.wcs is not None and image.shape is not None:
            axis, reach_deg = bounding_cone(image.wcs, image.shape, image.radius_deg, image.margin_px)
            if reach_deg < 180.0:
                kept &= rows["vector"] @ np.array(axis) >= np.cos(np.radians(reach_deg))
        found = rows[kept]
        return Watched(*(np.ascontiguousarray(found[name]) for name in _POSITION))

    def _put(self, ids: list[bytes], watched: Watched) -> None:
        known = len(self._table)
        new = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._row_of]
        self._row_of |= zip(new, range(known, known + len(new)), strict=True)
        self._table.extend(len(new))
        rows = np.array([self._row_of[id_] for id_ in ids], np.intp)
        table = self._table.rows
        for name in _POSITION:
            table[name][rows] = getattr(watched, name)
        table["vector"][rows] = unit_vectors(watched.ra_deg, watched.dec_deg)

    def _compact(self) -> None:
        kept: npt.NDArray[np.bool_] = self._table.rows["kind"] != LEAVES
        self._table = GrowingTable(_ROW, self._table.rows[kept].copy())
        self._row_of = {id_: row for row, id_ in enumerate(array_to_ids(self._table.rows["object_id"]))}


class Watchlists:
    """The lists of several associators, each of which owns its part of the sky, as one."""

    def __init__(self, lists: tuple[Watchlist, ...] = ()) -> None:
        self._lists = lists

    @property
    def version(self) -> int | None:
        """Newest version among them; None without a list."""
        return max((one.version for one in self._lists if one.version is not None), default=None)

    def near(self, image: Image) -> Watched:
        """Return the positions that an image covers, and perhaps some more."""
        found = [one.near(image) for one in self._lists]
        return Watched(*(np.concatenate([getattr(w, name) for w in found]) for name in _POSITION))
