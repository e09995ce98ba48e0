"""Pairs of an object and an image that get a forced point: which they are, decided in fold order alone.

The watchlist that extractors hold is a cache. What an image brought along is taken when it was measured exactly where
and as the pair says; the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.common.table import Rows
from trapline.schemas.columns import Array, Kind, array_to_ids

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Objects that are measured in one image, (n,) each: rows of the catalogue, and what is asked for.

    `object_id` is (n, 16); positions are ICRS degrees; `misses` as they were when the pair was decided.
    """

    rows: RowNumbers
    object_id: npt.NDArray[np.uint8]
    ra_deg: Float
    dec_deg: Float
    kind: Kinds
    misses: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, objects: Rows, rows: RowNumbers, kind: Kinds | int) -> Pairs:
        """Return the pairs of objects at their watch positions."""
        chosen = objects[rows]
        return cls(
            rows=rows,
            object_id=chosen["object_id"].copy(),
            ra_deg=chosen["watch_ra_deg"].copy(),
            dec_deg=chosen["watch_dec_deg"].copy(),
            kind=np.broadcast_to(np.asarray(kind, np.uint8), len(rows)).copy(),
            misses=chosen["misses"].copy(),
        )

    def take(self, which: Bool | RowNumbers) -> Pairs:
        """Return some of them."""
        return Pairs(
            self.rows[which],
            self.object_id[which],
            self.ra_deg[which],
            self.dec_deg[which],
            self.kind[which],
            self.misses[which],
        )


def due(objects: Rows, covered: RowNumbers, matched: RowNumbers, expiration: int) -> Pairs:
    """Return the pairs of an image: objects that it covers and that no blind source of it matched.

    Parameters
    ----------
    objects
        Rows of `catalogue.OBJECT`, of the whole catalogue.
    covered
        Rows that the image covers, all of them of objects from before it, none retired.
    matched
        Rows that got a blind point of it.
    expiration
        Misses with which an object is measured no more. Monitored positions never expire.
    """
    rows = np.setdiff1d(covered, matched)
    kind = objects["kind"][rows]
    wanted = (kind == Kind.MONITORED) | (objects["misses"][rows] < expiration)
    rows, kind = rows[wanted], kind[wanted]
    return Pairs.of(objects, rows, np.where(kind == Kind.MONITORED, Kind.MONITORED, Kind.FORCED).astype(np.uint8))


def brought_along(pairs: Pairs, arrays: Mapping[str, Array]) -> RowNumbers:
    """Return for each pair the row of `sources` that measured it, bit for bit where it says; -1 when none did."""
    rows = np.nonzero(arrays["kind"] != Kind.BLIND)[0]
    found = np.full(len(pairs), -1, np.intp)
    if not len(rows) or not len(pairs):
        return found
    kinds = arrays["kind"][rows].tolist()
    place: dict[tuple[bytes, int], int] = {}
    for row, id_, kind in zip(rows.tolist(), array_to_ids(arrays["object_id"][rows]), kinds, strict=True):
        place.setdefault((id_, kind), row)
    asked = zip(array_to_ids(pairs.object_id), pairs.kind.tolist(), strict=True)
    found[:] = [place.get(pair, -1) for pair in asked]
    here = (arrays["watch_ra_deg"][found] == pairs.ra_deg) & (arrays["watch_dec_deg"][found] == pairs.dec_deg)
    return np.where(here, found, -1)
