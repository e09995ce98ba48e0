"""One measured image taken into the state: objects, statistics, coverage, misses, and the pairs that it makes due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator import presence
from trapline.associator.association import Joined, associate, search_radius_deg
from trapline.associator.catalogue import NEIGHBOUR, Ids, RowNumbers
from trapline.associator.config import AssociatorConfig
from trapline.associator.coverage import Band
from trapline.associator.features import features_of
from trapline.associator.forced import forced_points
from trapline.associator.measured import Measured
from trapline.associator.pairs import Pairs, brought_along, due
from trapline.associator.requests import Request, ask
from trapline.associator.rows import (
    Founded,
    Outcome,
    blind_kinds,
    inherited_columns,
    joined_columns,
    point_columns,
    state_columns,
)
from trapline.associator.state import Sky
from trapline.associator.statistics import BandStatistics
from trapline.associator.watching import changes
from trapline.common.ids import fork_child_id, object_id, point_id
from trapline.schemas.columns import Array, Link, array_to_ids, ids_to_array
from trapline.schemas.lightcurves import FEATURES, NEIGHBOURS, POINTS, STATES, BandKey, Fork


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of an image: columns of `lightcurves`, forks, requests, and what changed on the watchlist."""

    arrays: dict[str, Array]
    forks: list[Fork]
    requests: list[Request]
    watchlist: dict[str, Array]
    inherited_bands: list[BandKey]

    @classmethod
    def nothing(cls) -> Taken:
        """Return what comes of an image that was not measured."""
        return cls(POINTS.empty() | STATES.empty(), [], [], {}, [])


def fold(sky: Sky, measured: Measured, settings: AssociatorConfig) -> Taken:
    """Take an image into the state.

    Raises
    ------
    ValueError
        When the method of association returns nonsense: the state is as it was.
    """
    radius_deg = search_radius_deg(measured.image.beam, settings)
    joined = associate(measured.sources.positions, sky.catalogue, radius_deg, settings)
    founded = _founded(sky, measured, joined)
    covered = sky.whereabouts.covered(measured.spot.footprint, measured.spot.order)
    # From here on nothing fails: the state changes as a whole or not at all.
    touched = np.concatenate([covered, joined.object_row[joined.object_row >= 0]])
    if not measured.late:
        presence.note_covered(sky.catalogue.table.rows, covered, measured.t_us)
    objects, forks = _settle(sky, measured, joined)
    sky.catalogue.move(objects, measured.sources.positions.take(joined.source))
    owned = sky.catalogue.owned(objects)
    arrays = _neighbours(measured, joined, owned)
    joined, objects = joined.take(owned), objects[owned]
    blind = _blind_points(sky, measured, joined, objects, settings)
    moved = _watch(sky, measured, joined, objects)
    pairs = due(sky.catalogue.table.rows, covered, touched[len(covered) :], settings.expiration)
    found = brought_along(pairs, measured.arrays)
    along = {name: array[found[found >= 0]] for name, array in measured.arrays.items()}
    forced = forced_points(sky, measured.band, measured.t_us, pairs.take(found >= 0), along, settings)
    requests = _requests(sky, measured, pairs.take(found < 0), objects[joined.link == Link.NEW])
    _remember(sky, measured, settings)
    arrays |= joined_columns([point_columns(blind, founded), forced[0]])
    arrays |= joined_columns([state_columns(blind.objects, blind.statistics), forced[1]])
    past, bands = _inherited(sky, measured.band, objects[joined.link == Link.FORKED])
    arrays |= past | feature_columns(sky, measured.band, np.concatenate([objects, forced[2]]), settings)
    return Taken(arrays, forks, requests, changes(sky.catalogue.table.rows, touched, moved, settings.expiration), bands)


def _founded(sky: Sky, measured: Measured, joined: Joined) -> Founded:
    """Return what earlier images say about the positions of the new objects that are owned here."""
    founders = measured.sources.positions.take(joined.source[joined.link == Link.NEW])
    founders = founders.take(measured.domain.owns(founders.ra_deg, founders.dec_deg))
    return Founded(*sky.coverage.at(measured.band, founders.ra_deg, founders.dec_deg))


def _neighbours(measured: Measured, joined: Joined, owned: npt.NDArray[np.bool_]) -> dict[str, Array]:
    """Return the sources that are points of other associators' objects alone: none without regions."""
    if owned.all():
        return {}
    beside = np.setdiff1d(joined.source[~owned], joined.source[owned])
    return NEIGHBOURS.prefixed({c.name: measured.sources.columns[c.name][beside] for c in NEIGHBOURS.columns})


def _inherited(sky: Sky, band: Band, children: RowNumbers) -> tuple[dict[str, Array], list[BandKey]]:
    """Return the statistics that children of forks have in other bands than this, and these bands."""
    found = []
    for other, statistics in sky.bands.items() if len(children) else ():
        rows = statistics.look(children)
        if other != band and (rows["n"] > 0).any():
            found.append((other, sky.catalogue.table.rows[children[rows["n"] > 0]], rows[rows["n"] > 0]))
    columns = inherited_columns([(objects, rows) for _, objects, rows in found])
    return columns, [BandKey(name, stokes) for (name, stokes), _, _ in found]


def feature_columns(sky: Sky, band: Band, rows: RowNumbers, settings: AssociatorConfig) -> dict[str, Array]:
    """Return the further statistics of objects in a band: none when none are configured, or there is nothing to say."""
    history = sky.histories.get(band)
    if not settings.features or history is None or not len(rows):
        return {}
    columns = {"object_id": sky.catalogue.table.rows["object_id"][rows].copy()}
    columns |= features_of(history, rows, settings.features)
    return {f"{FEATURES.prefix}.{name}": column for name, column in columns.items()}


def _settle(sky: Sky, measured: Measured, joined: Joined) -> tuple[RowNumbers, list[Fork]]:
    """Found what is new, split what forks, and return the object of each point."""
    catalogue, sources = sky.catalogue, measured.sources
    objects, forked = joined.object_row.copy(), joined.link == Link.FORKED
    parents = objects[forked]
    parent_ids = array_to_ids(catalogue.table.rows["object_id"][parents])
    pairs = zip(parent_ids, array_to_ids(sources.source_ids[joined.source[forked]]), strict=True)
    child_ids = [fork_child_id(measured.t_us, parent, source) for parent, source in pairs]
    objects[forked] = catalogue.fork(parents, ids_to_array(child_ids))
    sky.whereabouts.drop(np.unique(parents))
    for statistics in sky.bands.values():
        statistics.inherit(parents, objects[forked])
    for history in sky.histories.values():
        history.inherit(parents, objects[forked])
    objects[joined.link == Link.NEW] = _found(sky, measured, joined.source[joined.link == Link.NEW])
    children: dict[bytes, list[bytes]] = {}
    for parent, child, owned in zip(parent_ids, child_ids, catalogue.owned(parents).tolist(), strict=True):
        if owned:
            children.setdefault(parent, []).append(child)
    return objects, [Fork(parent, of_it) for parent, of_it in sorted(children.items())]


def _found(sky: Sky, measured: Measured, sources: RowNumbers) -> RowNumbers:
    """Found an object by each of these sources: it belongs for ever to whoever owns the place of the source."""
    at, found = measured.sources.positions.take(sources), array_to_ids(measured.sources.source_ids[sources])
    rows = sky.catalogue.found(ids_to_array(object_id(measured.t_us, source) for source in found), at, measured.t_us)
    sky.catalogue.table.rows["kind"][rows[~measured.domain.owns(at.ra_deg, at.dec_deg)]] = NEIGHBOUR
    return rows


def _blind_points(
    sky: Sky, measured: Measured, joined: Joined, objects: RowNumbers, settings: AssociatorConfig
) -> Outcome:
    sources = measured.sources
    statistics = sky.bands.setdefault(measured.band, BandStatistics()).add(
        objects, *sources.fluxes(joined.source), blind=True, t_us=measured.t_us
    )
    points = _point_ids(measured.t_us, sky, objects, sources.source_ids[joined.source])
    if settings.features:
        fluxes = sources.fluxes(joined.source)
        sky.keep(measured.band, objects, measured.t_us, points, fluxes, settings.history_points)
    return Outcome(
        measured={name: column[joined.source] for name, column in sources.columns.items()},
        kind=blind_kinds(len(joined)),
        link=joined.link,
        point_ids=points,
        objects=sky.catalogue.table.rows[objects],
        statistics=statistics,
        deruiter=joined.deruiter,
        misses=np.zeros(len(joined), np.uint32),
    )


def _watch(sky: Sky, measured: Measured, joined: Joined, objects: RowNumbers) -> RowNumbers:
    """Note the matches, renew the watch positions that it is time for, and return their rows."""
    table = sky.catalogue.table.rows
    presence.note_matched(table, objects, measured.t_us, late=measured.late)
    presence.note_founded(table, objects[joined.link == Link.NEW], measured.t_us)
    n_blind = table["n_blind"][objects]
    moved: RowNumbers = objects[(n_blind & (n_blind - 1) == 0) | (joined.link == Link.FORKED)]
    sky.catalogue.watch(moved)
    sky.whereabouts.put(moved, table["watch_ra_deg"][moved].copy(), table["watch_dec_deg"][moved].copy())
    return moved


def _requests(sky: Sky, measured: Measured, missing: Pairs, new: RowNumbers) -> list[Request]:
    """Return what must be asked for: pairs of this image, and of the newest images before it for new objects."""
    asking = measured.image.id + measured.domain.salt
    earlier = sky.recent.covering(sky.catalogue.table.rows, np.sort(new))
    requests = [ask(measured.dataset, image, pairs, asking) for image, pairs in earlier]
    if len(missing):
        requests.append(ask(measured.dataset, measured.folded, missing, asking))
    return requests


def _remember(sky: Sky, measured: Measured, settings: AssociatorConfig) -> None:
    if measured.limit is not None:
        sky.coverage.add(measured.spot, measured.limit, settings.open_pointings)
    sky.recent.add(measured.band, measured.folded, settings.backfill)
    sky.n_measured += 1
    sky.watermark_us = max(measured.t_us, measured.t_us if sky.watermark_us is None else sky.watermark_us)


def _point_ids(t_us: int, sky: Sky, objects: RowNumbers, sources: Ids) -> npt.NDArray[np.uint8]:
    object_ids = array_to_ids(sky.catalogue.table.rows["object_id"][objects])
    pairs = zip(object_ids, array_to_ids(sources), strict=True)
    return ids_to_array(point_id(t_us, object_, source) for object_, source in pairs)
