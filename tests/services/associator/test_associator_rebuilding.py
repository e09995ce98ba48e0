"""The state that is made of what the store and the newest records say, beside the one that was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from associator_journals import stored
from associator_world import SETTINGS, World, night
from trapline.associator.catalogue import NEIGHBOUR
from trapline.associator.core import command, whole_watchlist
from trapline.associator.rebuilding import rebuilt_state
from trapline.associator.regions import EVERYWHERE, domain_of
from trapline.associator.state import Sky
from trapline.associator.statistics import restored, summarise
from trapline.associator.stored import STATE, Stored, read_stored
from trapline.associator.told import Told, read_told
from trapline.common.ids import monitored_id
from trapline.common.postgres.connection import open_database
from trapline.schemas.columns import Kind, array_to_ids
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Command, Images
from trapline.schemas.message import Message

DIGITS = 9
FEATURED = SETTINGS.model_copy(update={"features": ("moments",), "history_points": 8})


def folded_and_stored(dsn: str, tmp_path: Path) -> tuple[World, Told]:
    """Fold a night with two monitored positions, one of which was left, store it, and keep no more than the store."""
    world = World(np.random.default_rng(2), digits=DIGITS, settings=FEATURED)
    for number, (ra, dec) in enumerate([(0.1, 0.2), (359.9, -0.1)]):
        asked = Command("monitor_add", monitored_id("default", ra, dec), ra, dec)
        world.take(command(world.state, bytes([number]) * 16, asked, FEATURED, "default"))
    world.run(night(4, 40))
    left = Command("monitor_remove", monitored_id("default", 0.1, 0.2))
    world.take(command(world.state, b"x" * 16, left, FEATURED, "default"))
    images = [Message(Images(schema=IMAGES_SCHEMA, id=i.id, image=i)) for i in world.images.values()]
    stored(dsn, images, world.told)
    told = read_told(tmp_path / "nothing", "0", len(world.told))
    # What the watchlist said last, and the records themselves.
    listed = whole_watchlist(world.state, b"").arrays
    told.positions, told.full_list = dict(listed), True
    told.newest.extend(world.told)
    return world, told


def stored_states(dsn: str) -> list[Stored]:
    async def read() -> list[Stored]:
        async with open_database(dsn) as database, database.connection() as con, con.transaction():
            return await read_stored(con, FEATURED.history_points, forced=True)

    return asyncio.run(read())


def families(sky: Sky) -> dict[bytes, set[bytes]]:
    """Return what forked, and what it became."""
    ids = array_to_ids(sky.catalogue.table.rows["object_id"])
    return {ids[row]: {ids[child] for child in children} for row, children in sky.catalogue.children.items()}


def test_all_that_the_state_holds_comes_back(dsn: str, tmp_path: Path) -> None:
    world, told = folded_and_stored(dsn, tmp_path)
    state, unknown = rebuilt_state(stored_states(dsn), told, FEATURED, EVERYWHERE)
    assert unknown.first_positions == unknown.weights == unknown.requests == 0
    before, after = world.state.skies["default"], state.skies["default"]
    was, now = (sky.catalogue.table.rows for sky in (before, after))
    order = [np.lexsort(rows["object_id"].T) for rows in (was, now)]
    was, now = was[order[0]], now[order[1]]
    for name in ("object_id", "n_blind", "first_seen_us", "retired", "kind", "listed", "first_ra_deg", "first_dec_deg"):
        np.testing.assert_array_equal(now[name], was[name], err_msg=name)
    alive = (was["retired"] == 0) & (was["kind"] == Kind.BLIND)
    for name in ("misses", "step_us", "step_matched"):
        np.testing.assert_array_equal(now[name][alive], was[name][alive], err_msg=name)
    for name in ("ra_deg", "dec_deg", "weight_ew", "weight_ns", "east_deg", "north_deg"):
        np.testing.assert_allclose(now[name], was[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert families(after) == families(before)
    assert families(before)
    assert after.watermark_us == before.watermark_us
    assert set(state.folded) == {i.id for i in world.images.values()}
    for band, statistics in before.bands.items():
        old, new = statistics.look(order[0]), after.bands[band].look(order[1])
        for name in ("n", "n_blind", "last_seen_us", "flux_min", "flux_max"):
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)
        np.testing.assert_allclose(new["weight"], old["weight"], rtol=1e-12)
        summaries = [summarise(rows) for rows in (new, old)]
        for name in ("flux_mean", "flux_mean_weighted", "flux_std", "eta"):
            np.testing.assert_allclose(summaries[0][name], summaries[1][name], rtol=1e-9, atol=1e-12, err_msg=name)
        series = [{}, {}]
        for found, sky, numbers in zip(series, (before, after), order, strict=True):
            for which, points_of in sky.histories[band].series(numbers):
                found.update({int(k): points_of.flux[i].tolist() for i, k in enumerate(which)})
        assert series[0] == series[1]
        ra, dec = np.random.default_rng(3).uniform(-1, 1, (2, 500))
        (n_old, limits_old), (n_new, limits_new) = (sky.coverage.at(band, ra % 360, dec) for sky in (before, after))
        assert n_old.tolist() == n_new.tolist()
        assert n_old.max() > 0
        for name in ("low", "high"):
            np.testing.assert_array_equal(limits_new[name], limits_old[name])


def test_a_region_gets_its_own_objects_and_its_neighbours(dsn: str, tmp_path: Path) -> None:
    world, told = folded_and_stored(dsn, tmp_path)
    regions = {"0": "3/" + ",".join(map(str, range(0, 768, 2))), "1": "3/" + ",".join(map(str, range(1, 768, 2)))}
    domains = [domain_of(regions, owner, 0.3) for owner in regions]
    owned = []
    for domain in domains:
        state, _ = rebuilt_state(stored_states(dsn), told, FEATURED, domain)
        rows = state.skies["default"].catalogue.table.rows
        owned.append(set(array_to_ids(rows["object_id"][rows["kind"] != NEIGHBOUR])))
        assert domain.owns(rows["first_ra_deg"], rows["first_dec_deg"]).tolist() == (rows["kind"] != NEIGHBOUR).tolist()
        assert (rows["kind"] == NEIGHBOUR).any()
    assert not owned[0] & owned[1]
    assert owned[0] | owned[1] == set(array_to_ids(world.state.skies["default"].catalogue.table.rows["object_id"]))


def test_an_empty_store_gives_an_empty_sky(dsn: str, tmp_path: Path) -> None:
    assert stored_states(dsn) == []
    state, _ = rebuilt_state([], read_told(tmp_path, "0", 0), SETTINGS, EVERYWHERE)
    assert state.skies == {}


def test_weights_that_an_older_version_did_not_store_are_estimated() -> None:
    rng = np.random.default_rng(4)
    told = np.zeros(2, STATE)
    flux = rng.normal(5, 0.1, 20)
    told["n"], told["flux_mean"], told["flux_mean_weighted"] = (20, 1), flux.mean(), flux.mean()
    told["flux_std"], told["flux_mean_weighted_err"] = (flux.std(ddof=1), 0.0), np.nan
    told["eta"] = (np.var(flux, ddof=1) / 0.1**2, 0.0)
    np.testing.assert_allclose(restored(told)["weight"], [20 / 0.1**2, 1 / 0.1**2], rtol=1e-12)
