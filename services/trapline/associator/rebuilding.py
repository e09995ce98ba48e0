"""The state made anew from what the store and the own journals say, as near to what was lost as they allow.

Positions and sums follow from the stored means and their errors to rounding; watch positions are those that were told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from trapline.associator.catalogue import NEIGHBOUR, OBJECT, Catalogue
from trapline.associator.config import AssociatorConfig
from trapline.associator.intake import measurable
from trapline.associator.recounting import SeenImages
from trapline.associator.regions import Domain
from trapline.associator.state import AssociatorState, Sky
from trapline.associator.statistics import BandStatistics, restored
from trapline.associator.stored import Stored
from trapline.associator.told import Told
from trapline.associator.watching import LEAVES, belongs
from trapline.common.ids import monitored_id
from trapline.common.sky import tangent_offsets
from trapline.common.table import GrowingTable, Rows
from trapline.schemas.columns import Kind, array_to_ids

RowOf = Mapping[bytes, int]
_SMALLEST_ERROR_DEG = 1e-35


@dataclass(slots=True)
class Unknown:
    """What could not be recovered, in numbers."""

    images: int = 0
    """without limits: coverage does not know them"""
    first_positions: int = 0
    watch_positions: int = 0
    weights: int = 0
    requests: int = 0


def rebuilt_state(
    stored: Iterable[Stored], told: Told, settings: AssociatorConfig, domain: Domain
) -> tuple[AssociatorState, Unknown]:
    """Return the state, and what is lacking in it.

    Parameters
    ----------
    stored
        By dataset.
    told
        What this associator said before the first record that is not stored.
    """
    state, unknown = AssociatorState(domain=domain, told=told.until), Unknown()
    for found in stored:
        images = SeenImages(found, told, settings)
        unknown.images += images.unknown
        sky = state.skies[found.dataset] = _sky(found, told, settings, domain, unknown)
        images.cover(sky)
        sky.catalogue.table.rows["listed"] = belongs(sky.catalogue.table.rows, settings.expiration)
        requests = images.requests(sky)
        state.requests |= {request.id: request for request in requests}
        for image_id in array_to_ids(found.images["image_id"]):
            state.remember(image_id, settings.remember_images)
    unknown.requests = len(told.requests) - len(state.requests)
    # Those of the journal are the newest, and in fold order.
    for image_id in told.folded:
        state.folded.pop(image_id, None)
        state.remember(image_id, settings.remember_images)
    return state, unknown


def _sky(stored: Stored, told: Told, settings: AssociatorConfig, domain: Domain, unknown: Unknown) -> Sky:
    """Return the objects of a dataset, where they are watched, their statistics and histories."""
    catalogue = Catalogue.of(GrowingTable(OBJECT, _objects(stored, domain, unknown)))
    row_of = {id_: row for row, id_ in enumerate(array_to_ids(catalogue.table.rows["object_id"]))}
    sky = Sky(catalogue)
    _watch(catalogue.table.rows, told, row_of, unknown)
    sky.look_around()
    _monitor(sky, stored.dataset, told, row_of, domain)
    for band, states in stored.states.items():
        sky.bands[band, stored.stokes.get(band, "")] = _statistics(states, row_of, unknown)
    if settings.features:
        _keep_histories(sky, stored, row_of, settings.history_points)
    return sky


def _objects(stored: Stored, domain: Domain, unknown: Unknown) -> Rows:
    """Return rows of `OBJECT`: watched where they are now, without misses."""
    found = stored.objects
    row_of = {id_: row for row, id_ in enumerate(array_to_ids(found["object_id"]))}
    parent = np.array([row_of.get(id_, -1) for id_ in array_to_ids(found["parent_id"])], np.intp)
    root = _roots(parent)
    monitored, unseen = found["monitored"] != 0, np.isnan(found["first_ra_deg"][root])
    unknown.first_positions += int((unseen & ~monitored).sum())
    objects = np.zeros(len(found), OBJECT)
    for name in ("object_id", "first_seen_us", "retired"):
        objects[name] = found[name]
    for name in ("ra_deg", "dec_deg"):
        objects[name] = objects[f"watch_{name}"] = found[name]
        objects[f"first_{name}"] = np.where(unseen, found[name][root], found[f"first_{name}"][root])
    for weight, error in (("weight_ew", "err_ew_deg"), ("weight_ns", "err_ns_deg")):
        objects[weight] = np.where(monitored, np.inf, np.maximum(found[error], _SMALLEST_ERROR_DEG) ** -2.0)
    objects["east_deg"], objects["north_deg"] = tangent_offsets(
        *(objects[name].copy() for name in ("ra_deg", "dec_deg", "first_ra_deg", "first_dec_deg"))
    )
    for states in stored.states.values():
        np.add.at(objects["n_blind"], [row_of[id_] for id_ in array_to_ids(states["object_id"])], states["n_blind"])
    objects["kind"] = np.where(monitored, Kind.MONITORED, Kind.BLIND)
    objects["step_us"], objects["step_matched"] = found["last_seen_us"], 1
    return _seen_from(domain, objects, parent)


def _roots(parent: Rows) -> Rows:
    """Return for each row the one that began its line."""
    root = np.where(parent >= 0, parent, np.arange(len(parent)))
    for _ in range(64):
        root = root[root]
    return root


def _seen_from(domain: Domain, objects: Rows, parent: Rows) -> Rows:
    """Return the objects of the region and its margin, with the rows of their parents."""
    first = objects["first_ra_deg"].copy(), objects["first_dec_deg"].copy()
    owned, monitored = domain.owns(*first), objects["kind"] == Kind.MONITORED
    objects["kind"][~owned & ~monitored] = NEIGHBOUR
    kept = domain.sees(*first) & (owned | ~monitored)
    place = np.cumsum(kept) - 1
    objects["parent"] = np.where(parent >= 0, place[parent] + 1, 0)
    return np.asarray(objects[kept])


def _watch(objects: Rows, told: Told, row_of: RowOf, unknown: Unknown) -> None:
    """Watch objects where the list said, and else where they are now; monitored positions while it has them."""
    listed, monitored = told.positions, objects["kind"] == Kind.MONITORED
    rows = np.array([row_of.get(id_, -1) for id_ in array_to_ids(listed["object_id"])], np.intp)
    known = rows >= 0
    for name in ("ra_deg", "dec_deg"):
        objects[f"watch_{name}"][rows[known]] = listed[name][known]
    n_blind = objects["n_blind"].astype(np.int64)
    # After 1, 2, 4, 8, ... detections an object is watched where it is.
    unsure = (objects["retired"] == 0) & (objects["kind"] == Kind.BLIND) & ((n_blind & (n_blind - 1)) != 0)
    unsure[rows[known]] = False
    unknown.watch_positions += int(unsure.sum())
    here, left = np.zeros(len(objects), bool), np.zeros(len(objects), bool)
    here[rows[known & (listed["kind"] == Kind.MONITORED)]] = True
    left[rows[known & (listed["kind"] == LEAVES)]] = True
    objects["retired"][monitored & (left | (~here & told.full_list))] = 1


def _monitor(sky: Sky, dataset: str, told: Told, row_of: RowOf, domain: Domain) -> None:
    """Watch the positions of the list that were never measured: the store does not know them."""
    listed = told.positions
    chosen = np.nonzero((listed["kind"] == Kind.MONITORED) & domain.owns(listed["ra_deg"], listed["dec_deg"]))[0]
    for k, id_ in zip(chosen.tolist(), array_to_ids(listed["object_id"][chosen]), strict=True):
        ra, dec = float(listed["ra_deg"][k]), float(listed["dec_deg"][k])
        if id_ not in row_of and monitored_id(dataset, ra, dec) == id_:
            sky.monitor(id_, ra, dec)


def _statistics(states: Rows, row_of: RowOf, unknown: Unknown) -> BandStatistics:
    objects = np.array([row_of.get(id_, -1) for id_ in array_to_ids(states["object_id"])], np.intp)
    kept = (objects >= 0) & (states["n"] > 0)
    unknown.weights += int(np.isnan(states["flux_mean_weighted_err"][kept]).sum())
    statistics = BandStatistics()
    statistics.put(objects[kept], restored(states[kept]))
    return statistics


def _keep_histories(sky: Sky, stored: Stored, row_of: RowOf, limit: int) -> None:
    """Take stored points into the histories of their objects, and of what these became."""
    bands = list(stored.states)
    points = stored.points[measurable(stored.points["flux_int"], stored.points["flux_int_err"])]
    edges = np.nonzero((points["image_id"][1:] != points["image_id"][:-1]).any(axis=1))[0] + 1
    for group in np.split(points, edges) if len(points) else ():
        rows = [row_of.get(id_, -1) for id_ in array_to_ids(group["object_id"])]
        heirs = [(heir, k) for k, row in enumerate(rows) if row >= 0 for heir in sky.catalogue.descendants(row)]
        if heirs:
            objects, of = (np.array(column, np.intp) for column in zip(*heirs, strict=True))
            band = bands[int(group["band"][0])]
            fluxes = group["flux_int"][of], group["flux_int_err"][of]
            key = band, stored.stokes.get(band, "")
            sky.keep(key, objects, int(group["t_us"][0]), group["point_id"][of], fluxes, limit)
