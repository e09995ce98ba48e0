"""A mesh in one process: extractors that run ahead of the associator, an old watchlist, answers that take time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgpack
import msgspec
import numpy as np
import xxhash

from associator_images import T0_US, image, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, Folded, answer, give_up, step, whole_watchlist
from trapline.associator.snapshot import dump, load
from trapline.common.ids import forced_source_id, record_id
from trapline.schemas.columns import Array, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Image
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import COLUMNS, Sources
from trapline.schemas.watchlist import POSITIONS, Remeasure, Watchlist

SETTINGS = AssociatorConfig(expiration=4, backfill=3, open_pointings=2)


def night(seed: int, images: int) -> list[Message[Sources]]:
    """Return a drifting field in two bands over RA 0: stars that come and go, crowds, noise, late images."""
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-0.9, 0.9, (2, 25))
    east, north = np.concatenate([east, east[:4] + 0.06]), np.concatenate([north, north[:4]])
    often = rng.choice([0.1, 0.6, 0.98], len(east))
    records = []
    for number in range(images):
        second = number // 2 if number % 7 else max(number // 2 - 3, 0)
        centre = 359.9 + 0.03 * (number % 12)
        of = image(number, ra_deg=centre, dec_deg=0.0, t_us=T0_US + second * 1_000_000, band=("60", "70")[number % 2])
        seen = (rng.random(len(east)) < often) & (np.abs(east + 0.1 - 0.03 * (number % 12)) < 0.75)
        ra = np.concatenate([east[seen] + rng.normal(0, 0.01, seen.sum()), rng.uniform(-0.5, 0.5, 1)])
        dec = np.concatenate([north[seen] + rng.normal(0, 0.01, seen.sum()), rng.uniform(-0.5, 0.5, 1)])
        inside = np.abs(dec) < 0.58
        flux = rng.normal(5, 1, len(ra))[inside]
        records.append(sources(of, ra[inside] % 360, dec[inside], flux, error_deg=0.01))
    return records


@dataclass
class World:
    """The associator, told in its own order, and extractors whose watchlist is as old as chance wants.

    `random` decides how old the list of each image is, when answers come, and when the associator is killed. Nothing
    that it decides may change anything.
    """

    random: np.random.Generator
    gone: frozenset[int] = frozenset()
    """numbers of images whose pixels are gone when they are asked for"""
    settings: AssociatorConfig = SETTINGS
    state: AssociatorState = field(default_factory=AssociatorState)
    told: list[Message[Lightcurves]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    asked: list[Message[Remeasure]] = field(default_factory=list)
    lists: list[dict[bytes, tuple[float, float, int]]] = field(default_factory=lambda: [{}])
    images: dict[int, Image] = field(default_factory=dict)
    digits: int | None = None
    """decimal places of a position that a forced value depends on; None: all"""

    def run(self, records: list[Message[Sources]]) -> World:
        """Fold all images, and drain."""
        for number, record in enumerate(records):
            of = record.header.image
            self.images[number] = of
            age = int(self.random.integers(0, 8))
            watchlist = self.lists[max(len(self.lists) - 1 - age, 0)]
            measured = self._with_forced(record, watchlist)
            self.take(step(self.state, of, measured, self.settings, sources_place=Place("sources", "0", 0, number)))
            while self.asked and self.random.random() < 0.4:
                self._answer_one()
            if self.random.random() < 0.1:
                self._restart()
        while self.asked:
            self._answer_one()
        return self

    def _with_forced(self, record: Message[Sources], watchlist: dict[bytes, tuple[float, float, int]]) -> Message[Any]:
        rows = [(id_, *row) for id_, row in watchlist.items()]
        forced = measured_at(record.header.image, rows, self.digits)
        return Message(record.header, {name: np.concatenate([a, forced[name]]) for name, a in record.arrays.items()})

    def _answer_one(self) -> None:
        request = self.asked.pop(int(self.random.integers(len(self.asked))))
        number = request.header.image_place.seq
        if number in self.gone:
            self.take(give_up(self.state, request.header.id, self.settings))
            return
        columns = [request.arrays[c.name] for c in POSITIONS.columns]
        rows = list(zip(array_to_ids(columns[0]), *(c.tolist() for c in columns[1:]), strict=True))
        of = self.images[number]
        header = msgspec.structs.replace(
            sources(of).header,
            id=record_id(of.t_start_us or 0, "trapline.sources", of.id, request.header.id),
            request=request.header.id,
        )
        self.take(answer(self.state, Message(header, measured_at(of, rows, self.digits)), self.settings))

    def take(self, folded: Folded) -> None:
        """Take what came of an input."""
        self.dropped.update(folded.dropped)
        for message in folded.messages:
            match message.header:
                case Lightcurves():
                    self.told.append(message)  # type: ignore[arg-type]
                case Remeasure():
                    self.asked.append(message)  # type: ignore[arg-type]
                case Watchlist():
                    self._follow(message)

    def _follow(self, message: Message[Any]) -> None:
        newest = {} if message.header.full else dict(self.lists[-1])
        ids, columns = array_to_ids(message.arrays["object_id"]), message.arrays
        for i, id_ in enumerate(ids):
            newest[id_] = (float(columns["ra_deg"][i]), float(columns["dec_deg"][i]), int(columns["kind"][i]))
        self.lists.append({id_: row for id_, row in newest.items() if row[2] != 255})

    def _restart(self) -> None:
        header, arrays = dump(self.state)
        self.state = load(msgpack.unpackb(msgpack.packb(header)), arrays, self.state.domain)
        self._follow(whole_watchlist(self.state, b"restart"))


def measured_at(of: Image, rows: list[tuple[bytes, float, float, int]], digits: int | None = None) -> dict[str, Array]:
    """Return forced rows: a value that depends on the image and the position, on nothing else.

    With `digits`, on so many decimal places of the position: what differs by rounding gives the same.
    """
    columns = COLUMNS.empty(len(rows))
    t_us = of.t_start_us or 0
    columns["source_id"] = ids_to_array(forced_source_id(t_us, of.id, id_, kind) for id_, _, _, kind in rows)
    columns["object_id"] = ids_to_array(id_ for id_, _, _, _ in rows)
    columns["kind"] = np.array([kind for _, _, _, kind in rows], np.uint8)
    for name, place in (("ra_deg", 1), ("dec_deg", 2)):
        columns[name] = columns[f"watch_{name}"] = np.array([row[place] for row in rows], float)
    places = [np.array(row[1:3]) if digits is None else np.round(row[1:3], digits) for row in rows]
    numbers = [xxhash.xxh3_64_intdigest(of.id + place.tobytes()) for place in places]
    columns["flux_int"] = columns["flux_peak"] = np.array([1 + number / 2**64 for number in numbers], float)
    columns["flux_int_err"] = columns["flux_peak_err"] = np.full(len(rows), 0.1)
    return columns


_STATISTICS = ("n", "n_blind", "flux_mean", "flux_mean_weighted", "flux_std", "v", "eta", "flux_min", "flux_max")
_MEASURED = ("object_id", "source_id", "kind", "link", "deruiter", "ra_deg", "dec_deg", "flux_int", "flags")


def points(*worlds: World) -> dict[bytes, tuple[Any, ...]]:
    """Return what does not depend on the order of processing, by id of the point."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for record in (record for world in worlds for record in world.told):
        image_id = record.header.image.id if record.header.image else b""
        columns = [[value.tobytes() for value in record.arrays[name]] for name in _MEASURED]
        for id_, *row in zip(array_to_ids(record.arrays["point_id"]), *columns, strict=True):
            assert id_ not in found, "a point twice"
            found[id_] = (image_id, *row)
    return found


def states(*worlds: World) -> dict[tuple[bytes, str], tuple[float, ...]]:
    """Return the newest statistics of each object and band, as the store has them in the end."""
    found: dict[tuple[bytes, str], tuple[float, ...]] = {}
    for record in (record for world in worlds for record in world.told):
        if record.header.image and record.header.image.band:
            bands = [record.header.image.band.name] * len(record.arrays["states.n"])
            tables = [("states", bands)]
            if record.header.inherited_bands:
                names = [record.header.inherited_bands[k].name for k in record.arrays["inherited.band"].tolist()]
                tables.append(("inherited", names))
            for table, of_row in tables:
                rows = np.array([record.arrays[f"{table}.{name}"] for name in _STATISTICS], float).T
                ids = array_to_ids(record.arrays[f"{table}.object_id"])
                found |= {(id_, b): tuple(row) for id_, b, row in zip(ids, of_row, rows.tolist(), strict=True)}
    return found
