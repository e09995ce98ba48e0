"""Channels `watchlist` and `remeasure`: what the associator asks the extractors to measure."""

from __future__ import annotations

from typing import Annotated

from trapline.schemas.columns import Column, Table, id_column
from trapline.schemas.header import Header, Place, doc

WATCHLIST_SCHEMA = "trapline.watchlist/1.0"
REMEASURE_SCHEMA = "trapline.remeasure/1.0"

POSITIONS = Table(
    "positions",
    (
        id_column("object_id", "object or monitored position"),
        Column("ra_deg", "f8", "watch position, ICRS", "deg"),
        Column("dec_deg", "f8", "watch position, ICRS", "deg"),
        Column("kind", "u1", "1 forced at a known object, 2 monitored, 3 back in time; 255 leaves the list"),
    ),
)


class Watchlist(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `watchlist`."""

    version: Annotated[int, doc("seq of the `lightcurves` record that it follows", ge=0)]
    full: Annotated[bool, doc("true for the whole list, false for what changed")] = True


class Remeasure(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `remeasure`: positions to measure in one image."""

    image_place: Annotated[Place, doc("the image")]
    sources_place: Annotated[Place | None, doc("the `sources` record whose blind rows are fitted along")] = None
