"""The watchlist: what extractors should measure in every image, told as a whole or as what changed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trapline.associator.catalogue import NEIGHBOUR
from trapline.common.ids import record_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array, Kind
from trapline.schemas.message import Message
from trapline.schemas.watchlist import POSITIONS, WATCHLIST_SCHEMA, Watchlist

RowNumbers = npt.NDArray[np.intp]

LEAVES = 255
"""kind of a row that takes its object off the list"""


def changes(objects: Rows, touched: RowNumbers, moved: RowNumbers, expiration: int) -> dict[str, Array]:
    """Note who is on the list now, and return the rows of those who came, moved or left.

    Parameters
    ----------
    objects
        Rows of `catalogue.OBJECT`, of the whole catalogue; `listed` changes.
    touched
        Rows that may have come or left.
    moved
        Rows whose watch position may be another.
    expiration
        Misses with which an object leaves.
    """
    rows = np.unique(np.concatenate([touched, moved]))
    before, now = objects["listed"][rows] != 0, belongs(objects[rows], expiration)
    told = rows[(before != now) | (now & np.isin(rows, moved))]
    objects["listed"][rows] = now
    return _positions(objects[told])


def whole(objects: Rows) -> dict[str, Array]:
    """Return the rows of all who are on the list."""
    return _positions(objects[objects["listed"] != 0])


def watchlist(
    version: int, cause: bytes, dataset: str, arrays: dict[str, Array], *, full: bool, salt: bytes = b""
) -> Message[Watchlist]:
    """Return a record; `cause` is what it follows from, `salt` what sets its associator apart."""
    # A whole list that follows from an image is another record than what that image changed.
    id_ = record_id(0, WATCHLIST_SCHEMA, cause, (b"full" if full else b"") + salt)
    header = Watchlist(schema=WATCHLIST_SCHEMA, id=id_, dataset=dataset, version=version, full=full)
    return Message(header, arrays)


def belongs(objects: Rows, expiration: int) -> npt.NDArray[np.bool_]:
    """Return which objects should be on the list."""
    alive = (objects["retired"] == 0) & (objects["kind"] != NEIGHBOUR)
    return np.asarray(alive & ((objects["kind"] == Kind.MONITORED) | (objects["misses"] < expiration)))


def _positions(objects: Rows) -> dict[str, Array]:
    columns = POSITIONS.empty(len(objects))
    kind = np.where(objects["kind"] == Kind.MONITORED, Kind.MONITORED, Kind.FORCED)
    columns["object_id"] = objects["object_id"].copy()
    columns["ra_deg"] = objects["watch_ra_deg"].copy()
    columns["dec_deg"] = objects["watch_dec_deg"].copy()
    columns["kind"] = np.where(objects["listed"] != 0, kind, LEAVES).astype(np.uint8)
    return columns
