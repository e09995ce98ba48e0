"""The images of a dataset, gone through once more when the state is made anew: coverage, misses, requests.

Misses are counted from the stored images step by step, beginning with what the newest records said of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from trapline.associator import presence
from trapline.associator.cells import LIMIT
from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Coverage, Spot, spot_of
from trapline.associator.pairs import Pairs
from trapline.associator.requests import Folded, Request
from trapline.associator.state import Sky
from trapline.associator.stored import Stored
from trapline.associator.told import Told
from trapline.common.table import Rows
from trapline.schemas.columns import Kind, Link, array_to_ids
from trapline.schemas.lightcurves import PENDING, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.watchlist import Remeasure

MOST_POINTINGS = 5000
"""newest pointings that are gone through: a field that drifts has one per image"""


class SeenImages:
    """What the store and the journals know of the images of a dataset."""

    def __init__(self, stored: Stored, told: Told, settings: AssociatorConfig) -> None:
        self._dataset, self._images, self._told, self._settings = stored.dataset, stored.images, told, settings
        self._spots = self._newest_spots(stored)
        ids = array_to_ids(self._images["image_id"])
        self._pointing_of = dict(zip(ids, self._images["pointing"].tolist(), strict=True))
        known = np.isin(self._images["pointing"], list(self._spots))
        self.unknown = stored.without_limits + int((~known).sum())
        """images of which coverage will know nothing"""

    def cover(self, sky: Sky) -> None:
        """Take all images into a sky that has its objects."""
        self._add_coverage(sky.coverage)
        self._count_misses(sky)
        for image_id in self._told.images:
            if (folded := self._folded(image_id)) is not None:
                sky.recent.add(self._spots[self._pointing_of[image_id]].band, folded, self._settings.backfill)
        sky.n_measured = len(self._images)
        sky.watermark_us = int(self._images["t_us"].max()) if len(self._images) else None

    def requests(self, sky: Sky) -> list[Request]:
        """Return what was asked for and is not answered."""
        row_of = _row_of(sky)
        misses = self._pending_misses()
        found = (self._request(message, row_of, misses) for message in self._told.requests)
        return [request for request in found if request is not None]

    def _newest_spots(self, stored: Stored) -> dict[int, Spot]:
        """Return where images belong, by number of their pointing."""
        numbers, last = np.unique(stored.images["pointing"][::-1], return_index=True)
        found = {}
        for number in sorted(numbers[np.argsort(last)][:MOST_POINTINGS].tolist()):
            image = stored.pointings[number]
            band = image.band.name if image.band else ""
            found[number] = spot_of(image, (band, image.stokes or ""), self._settings)
        return found

    def _add_coverage(self, coverage: Coverage) -> None:
        images = self._images
        limits = np.zeros(len(images), LIMIT)
        limits["image_id"], limits["fold"] = images["image_id"], np.arange(len(images))
        limits["low"], limits["high"] = images["low"], images["high"]
        # Of a pointing the smallest limits count, and when it was used last.
        best = np.lexsort((limits["fold"], limits["high"], limits["low"], images["pointing"]))
        numbers, first, counts = np.unique(images["pointing"][best], return_index=True, return_counts=True)
        _, last = np.unique(images["pointing"][::-1], return_index=True)
        for i in np.argsort(-last, kind="stable"):
            if (spot := self._spots.get(int(numbers[i]))) is not None:
                limit = limits[best[first[i]]][None]
                coverage.add(spot, limit, self._settings.open_pointings, count=int(counts[i]))

    def _count_misses(self, sky: Sky) -> None:
        """Go through all images in the order of time, and then through the newest records in fold order."""
        objects, row_of = sky.catalogue.table.rows, _row_of(sky)
        covered = {n: sky.whereabouts.covered(spot.footprint, spot.order) for n, spot in self._spots.items()}
        newest = [r for r in self._told.newest if r.header.image and not r.header.request]
        newest = [r for r in newest if r.header.dataset == self._dataset]
        told = {record.header.image.id for record in newest if record.header.image}
        before = [i for i, id_ in enumerate(array_to_ids(self._images["image_id"])) if id_ not in told]
        images = self._images[before]
        images = images[images["late"] == 0]
        for t_us, number in zip(images["t_us"].tolist(), images["pointing"].tolist(), strict=True):
            if number in covered:
                presence.note_covered(objects, covered[number], t_us)
        for record in newest:
            number = self._pointing_of.get(record.header.image.id, -1) if record.header.image else -1
            _note_told(objects, row_of, record, covered.get(number, np.zeros(0, np.intp)))

    def _folded(self, image_id: bytes) -> Folded | None:
        """Return an image as the newest ones are remembered; None when its place or its footprint is not known."""
        found, spot = self._told.images.get(image_id), self._spots.get(self._pointing_of.get(image_id, -1))
        if found is None or spot is None:
            return None
        image = msgspec.structs.replace(found.image, wcs=None)
        return Folded(image, found.image_place, found.sources_place, spot.footprint, spot.order)

    def _request(
        self, message: Message[Remeasure], row_of: Mapping[bytes, int], misses: Mapping[tuple[bytes, bytes], int]
    ) -> Request | None:
        header, columns, ids = message.header, message.arrays, array_to_ids(message.arrays["object_id"])
        folded = self._folded(header.parents[0]) if header.parents and header.dataset == self._dataset else None
        if folded is None or not all(id_ in row_of for id_ in ids):
            return None
        pairs = Pairs(
            rows=np.array([row_of[id_] for id_ in ids], np.intp),
            object_id=np.array(columns["object_id"], np.uint8),
            ra_deg=np.array(columns["ra_deg"], float),
            dec_deg=np.array(columns["dec_deg"], float),
            kind=np.array(columns["kind"], np.uint8),
            misses=np.array([misses.get((id_, folded.image.id), 0) for id_ in ids], np.uint32),
        )
        return Request(header.id, header.dataset, folded, pairs)

    def _pending_misses(self) -> dict[tuple[bytes, bytes], int]:
        """Return the misses of pairs that were asked for lately, by object and image."""
        wanted = {message.header.parents[0] for message in self._told.requests if message.header.parents}
        found: dict[tuple[bytes, bytes], int] = {}
        for record in self._told.newest if wanted else ():
            pending = PENDING.select(record.arrays)
            if pending:
                images, objects = array_to_ids(pending["image_id"]), array_to_ids(pending["object_id"])
                rows = zip(objects, images, pending["misses"].tolist(), strict=True)
                found |= {(id_, image): misses for id_, image, misses in rows if image in wanted}
        return found


def _row_of(sky: Sky) -> dict[bytes, int]:
    return {id_: row for row, id_ in enumerate(array_to_ids(sky.catalogue.table.rows["object_id"]))}


def _note_told(objects: Rows, row_of: Mapping[bytes, int], record: Message[Lightcurves], covered: Rows) -> None:
    """Note what a record said of misses: its own rows, and the pairs of its image that were asked for."""
    image, arrays, late = record.header.image, record.arrays, record.header.late
    if image is None:
        return
    t_us = image.t_start_us or 0
    if not late:
        presence.note_covered(objects, covered, t_us)
    kind, link, ids = arrays["kind"], arrays["link"], arrays["object_id"]
    presence.note_matched(objects, _known(row_of, ids[kind == Kind.BLIND])[0], t_us, late=late)
    presence.note_founded(objects, _known(row_of, ids[link == Link.NEW])[0], t_us)
    told = [(ids[kind == Kind.FORCED], arrays["misses"][kind == Kind.FORCED])]
    if pending := PENDING.select(arrays):
        here = (pending["image_id"] == np.frombuffer(image.id, np.uint8)).all(axis=1)
        here &= pending["kind"] == Kind.FORCED
        told.append((pending["object_id"][here], pending["misses"][here]))
    for of, misses in told:
        rows, known = _known(row_of, of)
        objects["misses"][rows] = misses[known]


def _known(row_of: Mapping[bytes, int], ids: Rows) -> tuple[Rows, Rows]:
    """Return the rows of those objects that are known, and which these are."""
    rows = np.array([row_of.get(id_, -1) for id_ in array_to_ids(ids)], np.intp)
    return rows[rows >= 0], rows >= 0
