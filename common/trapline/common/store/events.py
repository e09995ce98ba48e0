"""Events and images by time, place and kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg

from trapline.common.postgres.connection import Connection
from trapline.common.store.export import EXPORTS, OF_DATASET
from trapline.common.store.objects import Cone, ObjectFilter
from trapline.common.store.series import ALWAYS, Window

_ROWS_AT_ONCE = 1000

_TRANSIENTS = f"""
{EXPORTS["transients"].select}
WHERE {OF_DATASET}
    AND t >= $2::timestamptz AND t < $3::timestamptz
    AND ($4::text IS NULL OR kind = $4) AND ($5::text IS NULL OR alert_type = $5)
    AND ($6::text IS NULL OR role = $6) AND ($7::uuid IS NULL OR object = $7)
    {{inside}}
{EXPORTS["transients"].order}
"""

_IMAGES = f"""
{EXPORTS["images"].select}
WHERE {OF_DATASET}
    AND ($2::timestamptz IS NULL OR t >= $2) AND ($3::timestamptz IS NULL OR t < $3)
    AND ($4::text IS NULL OR band = $4) AND ($5::boolean IS NULL OR rejected = $5)
    {{inside}}
{EXPORTS["images"].order}
"""


async def find_transients(
    con: Connection,
    window: Window = ALWAYS,
    *,
    cone: Cone | None = None,
    dataset: str | None = None,
    kind: str | None = None,
    alert_type: str | None = None,
    role: str | None = None,
    object_id: Any = None,
) -> AsyncIterator[asyncpg.Record]:
    """Yield events in the order of time, one row each, as the newest record left them.

    Raises
    ------
    ValueError
        When the cone is none.
    """
    values = (dataset, *window.bounds(), kind, alert_type, role, object_id)
    async for row in _rows(con, _TRANSIENTS, values, ("ra_deg", "dec_deg"), cone):
        yield row


async def find_images(
    con: Connection,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    cone: Cone | None = None,
    dataset: str | None = None,
    band: str | None = None,
    rejected: bool | None = None,
) -> AsyncIterator[asyncpg.Record]:
    """Yield images in the order of time; those without a time come last, unless a window is given.

    Parameters
    ----------
    con
        A connection.
    since, until
        Start of the exposure, from and up to but not including.
    cone
        That holds the centre of the image.
    dataset, band, rejected
        Of this processing, in this band, measured (False) or not (True).

    Raises
    ------
    ValueError
        When the cone is none.
    """
    values = (dataset, since, until, band, rejected)
    async for row in _rows(con, _IMAGES, values, ("centre_ra_deg", "centre_dec_deg"), cone):
        yield row


async def _rows(
    con: Connection, query: str, values: tuple[Any, ...], position: tuple[str, str], cone: Cone | None
) -> AsyncIterator[asyncpg.Record]:
    circle = ObjectFilter(cone=cone).circle()
    inside, last = "", len(values)
    if circle:
        ra, dec, radius = (f"${last + i}" for i in (1, 2, 3))
        inside = f"AND q3c_radial_query({position[0]}, {position[1]}, {ra}, {dec}, {radius})"
    async with con.transaction(readonly=True):
        async for row in con.cursor(query.format(inside=inside), *values, *(circle or ()), prefetch=_ROWS_AT_ONCE):
            yield row
