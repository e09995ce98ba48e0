"""All that the associator remembers between images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from trapline.associator.catalogue import NEIGHBOUR, Catalogue, Positions, RowNumbers
from trapline.associator.coverage import Band, Coverage
from trapline.associator.history import History
from trapline.associator.regions import EVERYWHERE, Domain
from trapline.associator.requests import Recent, Request
from trapline.associator.statistics import BandStatistics
from trapline.associator.whereabouts import Whereabouts
from trapline.common.table import Rows
from trapline.schemas.columns import Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place


@dataclass(slots=True)
class Sky:
    """What is known of one dataset."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    bands: dict[Band, BandStatistics] = field(default_factory=dict[Band, BandStatistics])
    coverage: Coverage = field(default_factory=Coverage)
    watermark_us: int | None = None
    """newest start of a measured image, microseconds since 1970-01-01 UTC"""
    n_measured: int = 0
    """images measured so far: numbers them in the order of folding"""
    recent: Recent = field(default_factory=Recent)
    whereabouts: Whereabouts = field(default_factory=Whereabouts)
    """follows from the catalogue"""
    histories: dict[Band, History] = field(default_factory=dict[Band, History])
    """kept when features are made of them"""
    monitored: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """row of each monitored position, also of those that are no longer watched"""

    def keep(
        self, band: Band, rows: RowNumbers, t_us: int, points: Rows, fluxes: tuple[Rows, Rows], limit: int
    ) -> None:
        """Take one point of each of these objects into the history of a band; `points` are their ids, (n, 16)."""
        history = self.histories.get(band)
        if history is None or history.limit != limit:
            history = self.histories[band] = History(limit)
        keys = np.ascontiguousarray(points).view(">i8").reshape(-1, 2)[:, 1].astype(np.int64)
        history.add(rows, t_us, keys, *fluxes)

    def look_around(self) -> None:
        """Make what follows from the catalogue."""
        objects = self.catalogue.table.rows
        rows = np.nonzero((objects["retired"] == 0) & (objects["kind"] != NEIGHBOUR))[0]
        self.whereabouts.put(rows, objects["watch_ra_deg"][rows].copy(), objects["watch_dec_deg"][rows].copy())
        monitored = np.nonzero(objects["kind"] == Kind.MONITORED)[0]
        self.monitored = dict(zip(array_to_ids(objects["object_id"][monitored]), monitored.tolist(), strict=True))

    def monitor(self, position: bytes, ra_deg: float, dec_deg: float) -> RowNumbers:
        """Watch a position, which takes no part in association, and return its row."""
        catalogue = self.catalogue
        row = self.monitored.get(position)
        if row is None:
            at = Positions(*(np.array([value]) for value in (ra_deg, dec_deg, 0.0, 0.0)))
            row = self.monitored[position] = int(catalogue.found(ids_to_array([position]), at, 0)[0])
            objects = catalogue.table.rows
            # Its position is no mean of anything, and has no error.
            objects["kind"][row], objects["weight_ew"][row], objects["weight_ns"][row] = Kind.MONITORED, np.inf, np.inf
            catalogue.index.remove(np.array([row]))
        catalogue.table.rows["retired"][row] = 0
        rows = np.array([row], np.intp)
        self.whereabouts.put(rows, np.array([ra_deg]), np.array([dec_deg]))
        return rows

    def leave(self, position: bytes) -> RowNumbers:
        """Watch a monitored position no more, and return its row: none when there is no such position."""
        row = self.monitored.get(position)
        rows = np.zeros(0, np.intp) if row is None else np.array([row], np.intp)
        self.catalogue.table.rows["retired"][rows] = 1
        self.whereabouts.drop(rows)
        return rows


@dataclass(slots=True)
class AssociatorState:
    """The state of the fold: `step` changes it, a snapshot holds it."""

    skies: dict[str, Sky] = field(default_factory=dict[str, Sky])
    """by name of the dataset"""
    folded: dict[bytes, None] = field(default_factory=dict[bytes, None])
    """ids of the images folded, in that order"""
    requests: dict[bytes, Request] = field(default_factory=dict[bytes, Request])
    """those that are not answered, by id"""
    told: int = 0
    """records on `lightcurves` so far"""
    domain: Domain = EVERYWHERE
    """part of the sky that is owned"""

    def remember(self, image_id: bytes, limit: int) -> None:
        """Note that an image was folded, and forget the one folded longest ago when there are more than `limit`."""
        self.folded[image_id] = None
        if len(self.folded) > limit:
            del self.folded[next(iter(self.folded))]

    def needs(self) -> Iterator[Place]:
        """Yield the records that may have to be read once more: pixels and blind sources of open requests."""
        images = [request.of for request in self.requests.values()]
        for sky in self.skies.values():
            images += [image for band in sky.recent.bands.values() for image in band]
        for image in images:
            yield image.image_place
            if image.sources_place is not None:
                yield image.sources_place
