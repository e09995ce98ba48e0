"""Versions of objects, as a pipeline that compares needs them: all points of many objects in a window of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.columns import Columns, read_columns
from trapline.common.store.series import ALWAYS, POINT_TYPES, Window, known
from trapline.schemas.columns import Kind, Link

MONTHS_12 = timedelta(days=365)

_TYPES: Mapping[str, str] = {"wanted": "id", **POINT_TYPES}
_LINES = """
WITH RECURSIVE line AS (
    SELECT _id AS wanted, _id, parent FROM object WHERE _id = ANY($1::uuid[])
    UNION
    SELECT line.wanted, object._id, object.parent FROM object JOIN line ON object._id = line.parent
)
"""
_POINTS = """
SELECT line.wanted, point._id, object, image, source, t, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, flux_int,
    flux_int_err, flux_peak, flux_peak_err, v, eta, snr, deruiter, flags, n, kind, link,
    coalesce(array_position($2::text[], band), 0)::smallint
FROM line JOIN point ON point.object = line._id
WHERE t >= $3::timestamptz AND t < $4::timestamptz AND kind = ANY($5::smallint[])
ORDER BY line.wanted, t, band, point._id
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
        `wanted`: whose past the row belongs to; the other names are those of `POINT_TYPES`. A row that several objects
        inherited is there once for each of them.
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
        A connection.
    objects
        Their ids; one that is not stored has no rows.
    window
        When; by default the twelve months before the newest image of the store. Points that are no longer kept are not
        there; `lightcurve` has their bins.
    forced
        Also what was measured because the position was known.
    """
    window = window or await _last_year(con)
    bands = [row["band"] for row in await con.fetch(_BANDS)]
    kinds = list(map(int, Kind)) if forced else [int(Kind.BLIND)]
    keys = [UUID(bytes=key) for key in objects]
    columns = await read_columns(con, _TYPES, _LINES + _POINTS, keys, bands, *window.bounds(), kinds)
    if not columns["band"].all():
        rows = await con.fetch("SELECT DISTINCT band FROM image WHERE band IS NOT NULL")
        bands = sorted({*bands, *(row["band"] for row in rows)})
        columns = await read_columns(con, _TYPES, _LINES + _POINTS, keys, bands, *window.bounds(), kinds)
    return History(bands, {**columns, "band": known(columns["band"])})


async def _last_year(con: Connection) -> Window:
    newest = await con.fetchval("SELECT max(newest) FROM binning")
    return Window(newest - MONTHS_12) if newest else ALWAYS
