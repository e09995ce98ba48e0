"""Points as measured: rows of open intervals and arrays of closed ones, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import halves
from trapline.common.store.columns import Array, in_order, joined, read_columns
from trapline.common.store.segments import ARRAYS, OPEN, read_segments

POINT_TYPES: Mapping[str, str] = {
    "point": "id", "object": "id", "image": "id", "source": "id", "t": "t", "ra_deg": "f8", "dec_deg": "f8",
    "pos_err_ew_deg": "f8", "pos_err_ns_deg": "f8", "flux_int": "f8", "flux_int_err": "f8", "flux_peak": "f8",
    "flux_peak_err": "f8", "v": "f8", "eta": "f8", "snr": "f4", "deruiter": "f4", "flags": "i4", "n": "i4",
    "kind": "i2", "link": "i2", "band": "i2",
}  # fmt: skip
"""Columns of a lightcurve's points; `band` is an index into its bands."""

# Bands are sent as numbers, so that rows have a fixed width; 0 for one that has no statistics yet.
_POINTS = f"""
SELECT _id, object, image, source, t, ra_deg, dec_deg, pos_err_ew_deg, pos_err_ns_deg, flux_int, flux_int_err,
    flux_peak, flux_peak_err, v, eta, snr, deruiter, flags, n, kind, link,
    coalesce(array_position($1::text[], band), 0)::smallint
FROM point
WHERE object = ANY($2::uuid[]) AND ($3::text IS NULL OR band = $3) AND t >= $4::timestamptz AND t < $5::timestamptz
    AND {OPEN}
"""  # noqa: S608
_SEGMENTS = (
    "segment.object = ANY($2::uuid[]) AND ($3::text IS NULL OR segment.band = $3) "
    "AND segment.t_last >= $4::timestamptz AND segment.t < $5::timestamptz"
)


async def read_measurements(
    con: Connection, objects: Sequence[UUID], bands: Sequence[str], band: str | None, bounds: tuple[datetime, datetime]
) -> dict[str, Array]:
    """Return the points of objects as columns of `POINT_TYPES`, in the order of time.

    Parameters
    ----------
    con
        A connection, in a transaction that sees one moment: else what is closed just then may be there twice, or not.
    objects
        Whose.
    bands
        Names that rows know by number, here from 1; 0 is a band of another name.
    band
        Only this one; None: all.
    bounds
        From and up to but not including.
    """
    values = (list(bands), objects, band, *bounds)
    rows = await read_columns(con, POINT_TYPES, _POINTS, *values)
    closed = await read_segments(con, list(ARRAYS), _SEGMENTS, *values)
    if len(closed["times"]):
        closed["t"] = closed.pop("times")
        # A segment is read whole.
        since, until = (np.datetime64(time.replace(tzinfo=None), "us").astype(np.int64) for time in bounds)
        inside = in_order(closed, (closed["t"] >= since) & (closed["t"] < until))
        rows = joined([rows, {name: inside[name] for name in rows}])
    high, low = halves(rows["point"]).T
    return in_order(rows, np.lexsort((low, high, rows["band"], rows["t"])))
