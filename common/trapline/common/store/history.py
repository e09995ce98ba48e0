"""Versions of objects, as a pipeline that compares needs them: all points of many objects in a window of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import halves
from trapline.common.store.columns import Array, Columns, in_order, read_columns
from trapline.common.store.measurements import read_measurements
from trapline.common.store.series import ALWAYS, Window, known
from trapline.schemas.columns import Kind, Link, array_to_ids

MONTHS_12 = timedelta(days=365)

_LINE_TYPES: Mapping[str, str] = {"wanted": "id", "member": "id"}
_LINES = """
WITH RECURSIVE line AS (
    SELECT _id AS wanted, _id, parent FROM object WHERE _id = ANY($1::uuid[])
    UNION
    SELECT line.wanted, object._id, object.parent FROM object JOIN line ON object._id = line.parent
)
SELECT wanted, _id FROM line
"""
_BANDS = "SELECT DISTINCT band FROM object_state ORDER BY band"


@dataclass(frozen=True, slots=True)
class History:
    """Points of objects, in the order of object and time.

    Attributes
    ----------
    bands
        Names of the bands; `columns["band"]` are numbers of them.
    columns
        `wanted`: whose past the row belongs to; the other names are those of `POINT_TYPES`. A row that several
        objects inherited is there once for each of them.
    """

    bands: Sequence[str]
    columns: Columns

    @property
    def began(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which rows are the detection that began the object: its first source, or its part of one that was split."""
        own = (self.columns["object"] == self.columns["wanted"]).all(axis=1)
        result: np.ndarray[tuple[int], np.dtype[np.bool_]] = own & np.isin(
            self.columns["link"], (Link.NEW, Link.FORKED)
        )
        return result


async def history(
    con: Connection, objects: Sequence[bytes], window: Window | None = None, *, forced: bool = True
) -> History:
    """Return the versions of some objects: their points and those of the objects they were split from.

    Nothing but these rows is read, and nothing is written or locked: the writer does not notice.

    Parameters
    ----------
    con
        A connection that is not in a transaction.
    objects
        Their ids; one that is not stored has no rows.
    window
        When; by default the twelve months before the newest image of the store. Points that are no longer kept are not
        there; `lightcurve` has their bins.
    forced
        Also what was measured because the position was known.
    """
    async with con.transaction(isolation="repeatable_read", readonly=True):
        window = window or await _last_year(con)
        bands = [row["band"] for row in await con.fetch(_BANDS)]
        lines = await read_columns(con, _LINE_TYPES, _LINES, [UUID(bytes=key) for key in objects])
        keys = [UUID(bytes=key) for key in set(array_to_ids(lines["member"]))]
        columns = await read_measurements(con, keys, bands, None, window.bounds())
        if not columns["band"].all():
            rows = await con.fetch("SELECT DISTINCT band FROM image WHERE band IS NOT NULL")
            bands = sorted({*bands, *(row["band"] for row in rows)})
            columns = await read_measurements(con, keys, bands, None, window.bounds())
    if not forced:
        columns = in_order(columns, columns["kind"] == Kind.BLIND)
    line, point = _matching(lines["member"], columns["object"])
    # Those of one object come together; in it they stay in the order of time.
    high, low = halves(lines["wanted"][line]).T
    order = np.lexsort((low, high))
    found = in_order({**columns, "band": known(columns["band"])}, point[order])
    return History(bands, {"wanted": lines["wanted"][line[order]], **found})


def _matching(members: Array, objects: Array) -> tuple[Array, Array]:
    """Return all pairs of a row of `members` and a row of `objects`, (n, 16) ids each, that are equal.

    They are in the order of `objects`.
    """
    high, low = halves(np.concatenate([members, objects])).T
    order = np.lexsort((low, high))
    new = np.ones(len(order), bool)
    new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    number = np.empty(len(order), np.intp)
    number[order] = np.cumsum(new)
    mine, theirs = number[: len(members)], number[len(members) :]
    by_number = np.argsort(mine, kind="stable")
    first = np.searchsorted(mine[by_number], theirs, "left")
    count = np.searchsorted(mine[by_number], theirs, "right") - first
    rows = np.repeat(np.arange(len(objects)), count)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return by_number[np.repeat(first, count) + within], rows


async def _last_year(con: Connection) -> Window:
    newest = await con.fetchval("SELECT max(newest) FROM binning")
    return Window(newest - MONTHS_12) if newest else ALWAYS
