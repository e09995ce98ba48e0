"""How much is stored."""

from __future__ import annotations

import msgspec

from trapline.common.postgres.connection import Connection


class ImageCounts(msgspec.Struct, frozen=True):
    """Images by what became of them."""

    received: int
    measured: int
    """received and not rejected"""
    rejected: int


class Summary(msgspec.Struct, frozen=True):
    """Rows of the store, by what they are."""

    images: ImageCounts
    sources: int
    """sources that were detected without being asked for; one that several objects share counts once"""
    objects: int
    points: int
    transients: int


_COUNTS = """
SELECT
    (SELECT count(*) FROM image WHERE dataset = any(d.ids)) AS received,
    (SELECT count(*) FROM image WHERE dataset = any(d.ids) AND rejected) AS rejected,
    (SELECT count(*) FROM object WHERE dataset = any(d.ids)) AS objects,
    (SELECT count(*) FROM transient WHERE dataset = any(d.ids)) AS transients,
    p.points, p.sources
FROM (SELECT array_agg(_id) AS ids FROM dataset WHERE $1::text IS NULL OR name = $1) AS d,
LATERAL (
    SELECT count(*) AS points, count(DISTINCT point.source) FILTER (WHERE point.kind = 0) AS sources
    FROM measurement AS point JOIN object ON object._id = point.object
    WHERE object.dataset = any(d.ids)
) AS p
"""


async def summary(con: Connection, dataset: str | None = None) -> Summary:
    """Count what is stored, of one dataset or of all. This reads the whole store once."""
    row = await con.fetchrow(_COUNTS, dataset)
    assert row is not None
    images = ImageCounts(row["received"], row["received"] - row["rejected"], row["rejected"])
    return Summary(images, row["sources"], row["objects"], row["points"], row["transients"])
