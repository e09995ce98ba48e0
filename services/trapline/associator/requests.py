"""What was asked of the extractors and is not answered yet, and the newest images, in which new objects are looked for.

Every pair that is asked for gets a point: measured, or NaN when the pixels are gone or nobody could measure them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.footprint import Footprint, covered_at
from trapline.associator.pairs import Pairs
from trapline.common.ids import forced_source_id, record_id
from trapline.common.table import Rows
from trapline.schemas.columns import Array, Flag, Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Image
from trapline.schemas.lightcurves import PENDING
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS
from trapline.schemas.watchlist import REMEASURE_SCHEMA, Remeasure

RowNumbers = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Folded:
    """An image that was folded: where its pixels and its blind sources stand, and what it covers."""

    image: Image
    """without WCS"""
    image_place: Place
    sources_place: Place | None
    footprint: Footprint
    order: int


@dataclass(frozen=True, slots=True)
class Request:
    """Pairs that were asked for, of one image."""

    id: bytes
    dataset: str
    of: Folded
    pairs: Pairs

    def message(self) -> Message[Remeasure]:
        """Return what asks for them."""
        header = Remeasure(
            schema=REMEASURE_SCHEMA,
            id=self.id,
            dataset=self.dataset,
            parents=[self.of.image.id],
            image_place=self.of.image_place,
            sources_place=self.of.sources_place,
        )
        pairs = self.pairs
        arrays: dict[str, Array] = {
            "object_id": pairs.object_id,
            "ra_deg": pairs.ra_deg,
            "dec_deg": pairs.dec_deg,
            "kind": pairs.kind,
        }
        return Message(header, arrays)

    def not_measured(self) -> dict[str, Array]:
        """Return a row of `sources` per pair whose fluxes are NaN, and flagged so."""
        pairs, columns = self.pairs, COLUMNS.empty(len(self.pairs))
        asked = zip(array_to_ids(pairs.object_id), pairs.kind.tolist(), strict=True)
        t_us, image_id = self.of.image.t_start_us or 0, self.of.image.id
        columns["source_id"] = ids_to_array(forced_source_id(t_us, image_id, id_, kind) for id_, kind in asked)
        columns["object_id"], columns["kind"] = pairs.object_id, pairs.kind
        columns["watch_ra_deg"], columns["watch_dec_deg"] = pairs.ra_deg, pairs.dec_deg
        columns["ra_deg"], columns["dec_deg"] = pairs.ra_deg, pairs.dec_deg
        columns["flags"] = np.full(len(pairs), Flag.NO_PIXELS, np.uint32)
        return columns


def ask(dataset: str, of: Folded, pairs: Pairs, asking: bytes) -> Request:
    """Return a request; `asking` is the id of the image that made it necessary, and what sets its associator apart."""
    return Request(record_id(of.image.t_start_us or 0, REMEASURE_SCHEMA, of.image.id, asking), dataset, of, pairs)


def pending_columns(requests: Iterable[Request]) -> dict[str, Array]:
    """Return the pairs of requests as `lightcurves` tells of them."""
    requests = list(requests)
    if not requests:
        return {}
    images = [ids_to_array([r.of.image.id] * len(r.pairs)) for r in requests]
    columns = {name: np.concatenate([getattr(r.pairs, name) for r in requests]) for name in ("object_id", "kind")}
    columns["misses"] = np.concatenate([r.pairs.misses for r in requests])
    return PENDING.prefixed(columns | {"image_id": np.concatenate(images)})


class Recent:
    """The newest images of each band, in fold order."""

    def __init__(self, images: Mapping[tuple[str, str], Iterable[Folded]] | None = None) -> None:
        self.bands = {band: deque(found) for band, found in (images or {}).items()}

    def add(self, band: tuple[str, str], image: Folded, limit: int) -> None:
        """Take in an image, and forget the oldest of its band when there are more than `limit`."""
        found = self.bands.setdefault(band, deque())
        found.append(image)
        while len(found) > limit:
            found.popleft()

    def covering(self, objects: Rows, rows: RowNumbers) -> Iterable[tuple[Folded, Pairs]]:
        """Yield each image that covers some of these objects, with the pairs."""
        ra, dec = objects["watch_ra_deg"][rows].copy(), objects["watch_dec_deg"][rows].copy()
        known: dict[tuple[Footprint, int], Pairs] = {}
        for image in (one for images in self.bands.values() for one in images) if len(rows) else ():
            # Images of one field have one footprint: what it covers is found once, and its pairs are the same.
            key = (image.footprint, image.order)
            if key not in known:
                known[key] = Pairs.of(objects, rows[covered_at(*key, ra, dec)], Kind.BACKFILL)
            if len(known[key]):
                yield image, known[key]
