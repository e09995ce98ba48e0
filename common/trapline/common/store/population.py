"""One row per object and band for plots of the whole population: fixed-width columns, read by binary COPY."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.postgres.connection import Connection
from trapline.common.store.units import JANSKY, in_jansky

Rows = npt.NDArray[Any]

_FIELDS = (("key", "S16"), ("ra_deg", ">f8"), ("dec_deg", ">f8"), ("v", ">f8"), ("eta", ">f8"), ("flux", ">f8"),
           ("last_s", ">f8"), ("n", ">i4"), ("kind", ">i2"))  # fmt: skip
_ROW = np.dtype([("count", ">i2"), *((f"{name}{part}", kind) for name, type_ in _FIELDS
                                     for part, kind in (("_size", ">i4"), ("", type_)))])  # fmt: skip
_HEADER_BYTES, _TRAILER_BYTES = 19, 2

_QUERY = """
SELECT
    o._id, o.ra_deg, o.dec_deg, s.v, s.eta, {flux}, extract(epoch FROM s.last_seen)::float8, s.n, o.kind
FROM object_state AS s JOIN object AS o ON o._id = s.object
WHERE o.dataset = (SELECT _id FROM dataset WHERE name = $1) AND NOT o.retired AND ($2::text IS NULL OR s.band = $2)
ORDER BY s._id DESC LIMIT $3
"""


async def population(
    con: Connection, dataset: str, band: str | None = None, limit: int = 300_000, unit: str | None = None
) -> Rows:
    """Return the newest objects of a dataset in one band or in all, as a structured array.

    Parameters
    ----------
    con, dataset, band
        To read from, and what.
    limit
        The most rows.
    unit
        Of flux densities: Jy, mJy, uJy or nJy; None for that of the images.

    Returns
    -------
    numpy.ndarray
        ``key`` (16 bytes, the object's id), ``ra_deg``, ``dec_deg`` (ICRS), ``v``, ``eta``, ``flux`` (weighted mean),
        ``last_s`` (last blind detection, s since 1970-01-01 UTC), ``n``, ``kind``.
    """
    pieces: list[bytes] = []

    async def keep(piece: bytes) -> None:
        pieces.append(piece)

    flux = "s.flux_mean_weighted"
    if unit is not None:
        flux = f"coalesce({in_jansky(flux, 's.unit')} / {JANSKY[unit]!r}, {flux})"
    await con.copy_from_query(_QUERY.format(flux=flux), dataset, band, limit, output=keep, format="binary")
    data = b"".join(pieces)
    # Columns that are never NULL make rows of one width: nothing is parsed.
    return np.frombuffer(data, _ROW, offset=_HEADER_BYTES, count=(len(data) - _HEADER_BYTES) // _ROW.itemsize)


async def bands_of(con: Connection, dataset: str, limit: int = 2000) -> list[str]:
    """Return the bands of the newest images of a dataset."""
    query = """
    SELECT DISTINCT band FROM (
        SELECT band FROM image WHERE dataset = (SELECT _id FROM dataset WHERE name = $1) ORDER BY _id DESC LIMIT $2
    ) AS newest WHERE band IS NOT NULL ORDER BY band
    """
    return [row["band"] for row in await con.fetch(query, dataset, limit)]
