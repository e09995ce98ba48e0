"""Several associators, each with its part of the sky: together they say what one says, and nothing twice."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from associator_images import T0_US, image, record_of, sources
from associator_world import SETTINGS, World, points, states
from trapline.associator.cells_text import WHOLE_SKY, common_cell, ranges_of
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, command, step
from trapline.associator.footprint import cell_centres
from trapline.associator.regions import EVERYWHERE, domain_of
from trapline.associator.service import AssociatorFold
from trapline.associator.snapshot import dump, load
from trapline.common.channel import Record
from trapline.common.ids import monitored_id
from trapline.common.runtime.order import Step
from trapline.common.runtime.snapshot import SnapshotError
from trapline.common.sky import from_tangent, separation_deg
from trapline.schemas.columns import Kind, Link, array_to_ids
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Command, Images
from trapline.schemas.message import Message, encode
from trapline.schemas.sources import Sources
from trapline.transient_finder.points import points_of

NORTH_SOUTH = {"0": "0/0-3 1/16-31", "1": "1/32-47"}
# As many borders as can be: neighbours of order 3 have different owners.
CHESSBOARD = {
    "0": "3/" + ",".join(map(str, range(0, 768, 2))),
    "1": "3/" + ",".join(map(str, range(1, 768, 2))),
}
THIRDS = {owner: "2/" + ",".join(map(str, range(int(owner), 192, 3))) for owner in "012"}
MARGIN_DEG = 0.6


def crowds(seed: int, ra_deg: float, dec_deg: float, images: int = 24) -> list[Message[Sources]]:
    """Return a wide field of crowds, each far smaller than the margin; stars come and go, some images are late."""
    rng = np.random.default_rng(seed)
    east, north = np.repeat(rng.uniform(-5, 5, (2, 30)), 5, axis=1) + rng.normal(0, 0.03, (2, 150))
    often = rng.choice([0.3, 0.7, 0.98], len(east))
    records = []
    for number in range(images):
        second = number // 2 if number % 7 else max(number // 2 - 3, 0)
        of = image(
            number,
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            shape=(100, 100),
            pixel_deg=0.1,
            t_us=T0_US + second * 1_000_000,
            band=("60", "70")[number % 2],
        )
        seen = rng.random(len(east)) < often
        e = np.concatenate([east[seen] + rng.normal(0, 0.01, seen.sum()), rng.uniform(-4, 4, 5)])
        n = np.concatenate([north[seen] + rng.normal(0, 0.01, seen.sum()), rng.uniform(-4, 4, 5)])
        ra, dec = from_tangent(e, n, ra_deg, dec_deg)
        records.append(sources(of, ra % 360, dec, rng.normal(5, 1, len(ra)), error_deg=0.01))
    return records


def owners(regions: dict[str, str], seed: int, settings: AssociatorConfig = SETTINGS) -> list[World]:
    worlds = [World(np.random.default_rng([seed, k]), settings=settings) for k in range(len(regions))]
    for world, owner in zip(worlds, regions, strict=True):
        world.state = AssociatorState(domain=domain_of(regions, owner, MARGIN_DEG))
    return worlds


def forks_of(*worlds: World) -> dict[bytes, list[bytes]]:
    found = [fork for world in worlds for record in world.told for fork in record.header.forks]
    assert len({fork.parent for fork in found}) == len(found), "a fork told twice"
    return {fork.parent: fork.children for fork in found}


@pytest.mark.parametrize(
    ("regions", "ra_deg", "dec_deg"),
    [
        pytest.param(NORTH_SOUTH, 45.0, 1.0, id="two halves"),
        pytest.param(CHESSBOARD, 0.0, 0.0, id="chessboard at RA 0"),
        pytest.param(CHESSBOARD, 10.0, 89.0, id="chessboard at the pole"),
        pytest.param(THIRDS, 200.0, 41.8, id="thirds"),
    ],
)
def test_regions_change_no_object_no_point_and_no_fork(regions: dict[str, str], ra_deg: float, dec_deg: float) -> None:
    records = crowds(3, ra_deg, dec_deg)
    alone = World(np.random.default_rng(1)).run(records)
    worlds = [world.run(records) for world in owners(regions, 2)]
    expected = points(alone)
    assert points(*worlds) == expected
    assert forks_of(*worlds) == forks_of(alone)
    links = Counter(row[4] for row in expected.values())
    assert set(links) >= {bytes([link]) for link in (Link.NEW, Link.FORKED, Link.SHARED, Link.FORCED)}
    assert {row[3][0] for row in expected.values()} >= {Kind.BLIND, Kind.FORCED, Kind.BACKFILL}
    again, newest = states(*worlds), states(alone)
    assert again.keys() == newest.keys()
    for key, values in newest.items():
        assert again[key] == pytest.approx(values, rel=1e-9, abs=1e-12, nan_ok=True)
    # What is split was split: somebody did not fold everything.
    assert any(world.dropped["elsewhere"] for world in worlds)


def test_without_a_margin_borders_would_be_seen() -> None:
    records = crowds(3, 0.0, 0.0, images=8)
    alone = World(np.random.default_rng(1)).run(records)
    worlds = owners({owner: "5/" + ",".join(map(str, range(int(owner), 12288, 2))) for owner in "01"}, 2)
    for world in worlds:
        domain = world.state.domain
        centres = cell_centres(np.arange(12 << 14), 7)
        world.state = AssociatorState(domain=dataclasses.replace(domain, near=domain.owns(*centres), order=7))
        world.run(records)
    assert points(*worlds) != points(alone)


def test_images_that_are_searched_further_than_the_margin_are_counted_and_told_once() -> None:
    cells = {"0": "0/0-5", "1": "0/6-11"}
    settings = AssociatorConfig(
        replicas=2, margin_deg=0.25, regions=[{"owner": o, "cells": c} for o, c in cells.items()]
    )
    told: list[str] = []
    fold = AssociatorFold(settings, domain_of(cells, "0", settings.margin_deg), told.append)
    state = fold.initial()
    # The search radius is 1.5 full widths of the beam.
    for number, beam_deg in enumerate((0.16, 0.17, 0.2)):
        record = sources(image(number, beam_deg=beam_deg), [10.0], [50.0])
        places = Place("images", "0", 0, number), Place("sources", "0", 0, number)
        header = Images(schema=IMAGES_SCHEMA, id=record.header.image.id, image=record.header.image)
        inputs = [Record(place, 0, encode(m)) for place, m in zip(places, (Message(header), record), strict=True)]
        fold.step(state, Step(tuple(inputs)))
        assert fold.counters(state).get("images_beyond_margin", 0) == number
    assert len(told) == 1
    assert "margin_deg = 0.25" in told[0]
    assert "0.255 degrees" in told[0]


@pytest.mark.parametrize("method", ["nearest", "optimal"])
def test_regions_change_nothing_with_other_methods(method: str) -> None:
    settings = AssociatorConfig(expiration=4, backfill=3, open_pointings=2, method=method)
    records = crowds(5, 20.0, 21.0)
    alone = World(np.random.default_rng(1), settings=settings).run(records)
    worlds = [world.run(records) for world in owners(CHESSBOARD, 2, settings)]
    assert points(*worlds) == points(alone)


def test_records_of_several_owners_have_ids_of_their_own_and_the_first_those_of_one_alone() -> None:
    records = crowds(3, 0.0, 0.0, images=6)
    alone = World(np.random.default_rng(1)).run(records)
    worlds = [world.run(records) for world in owners(CHESSBOARD, 1)]
    ids = [[record.header.id for record in world.told if not record.header.request] for world in (alone, *worlds)]
    assert ids[0] == ids[1]
    assert not set(ids[1]) & set(ids[2])
    requests = [{record.header.request for record in world.told} - {None} for world in worlds]
    assert all(requests)
    assert not set.intersection(*requests)


def test_what_is_bright_beside_a_region_is_told_to_those_who_look_for_side_lobes() -> None:
    regions = {"0": "0/0-3 0/5", "1": "0/4 0/6-11"}
    state = AssociatorState(domain=domain_of(regions, "0", 2.0))
    of = image(0, ra_deg=45.0, dec_deg=0.0, shape=(100, 100), pixel_deg=0.1)
    record = record_of(step(state, of, sources(of, [45.0, 45.0], [1.0, -1.0], [1.0, 9.0]), SETTINGS))
    assert record.arrays["dec_deg"].tolist() == [1.0]
    assert record.arrays["neighbours.dec_deg"].tolist() == [-1.0]
    assert record.arrays["neighbours.flux_peak"].tolist() == [9.0]
    found = points_of(record)
    assert found is not None
    assert found.context.bright == ((45.0, 1.0, 1.0), (45.0, -1.0, 9.0))


def test_a_monitored_position_is_watched_by_the_owner_of_its_place_alone() -> None:
    told = []
    for owner in NORTH_SOUTH:
        state = AssociatorState(domain=domain_of(NORTH_SOUTH, owner, 2.0))
        position = monitored_id("default", 83.6, 22.0)
        asked = Command("monitor_add", position, ra_deg=83.6, dec_deg=22.0)
        folded = command(state, bytes(16), asked, SETTINGS, "default")
        told.append([array_to_ids(m.arrays["object_id"]) for m in folded.messages[1:]])
        removed = command(state, b"r" * 16, Command("monitor_remove", position), SETTINGS, "default")
        assert len(removed.messages) == len(folded.messages)
    assert told == [[[position]], []]


def test_the_margin_is_at_least_as_wide_as_it_says_everywhere() -> None:
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 360, 40_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 40_000)))
    for regions in (NORTH_SOUTH, CHESSBOARD, THIRDS):
        parts = [domain_of(regions, owner, MARGIN_DEG) for owner in regions]
        assert (np.sum([part.owns(ra, dec) for part in parts], axis=0) == 1).all()
        for part in parts:
            owned, seen = part.owns(ra, dec), part.sees(ra, dec)
            assert seen[owned].all()
            unseen = np.nonzero(~seen)[0][:200]
            near = separation_deg(ra[unseen, None], dec[unseen, None], ra[owned], dec[owned]).min(axis=1)
            assert (near > MARGIN_DEG).all()
            assert seen.sum() < len(seen)


def test_a_snapshot_goes_on_with_the_same_region_and_no_other() -> None:
    domain = domain_of(CHESSBOARD, "1", MARGIN_DEG)
    state = AssociatorState(domain=domain)
    records = crowds(3, 0.0, 0.0, images=6)
    for record in records[:5]:
        step(state, record.header.image, record, SETTINGS)
    again = load(*dump(state), domain)
    after = [step(one, records[5].header.image, records[5], SETTINGS).messages[0] for one in (state, again)]
    assert after[0].header == after[1].header
    assert {k: v.tobytes() for k, v in after[0].arrays.items()} == {k: v.tobytes() for k, v in after[1].arrays.items()}
    for other in (EVERYWHERE, domain_of(CHESSBOARD, "0", MARGIN_DEG)):
        with pytest.raises(SnapshotError, match="trapline associator rebuild"):
            load(*dump(state), other)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no cells"),
        ("1", "is not ORDER/CELLS"),
        ("1/48", "cells of order 1 are 0 to 47"),
        ("1/5-3", "ranges ascend"),
        ("30/0", "no order above 29"),
        ("1/2--3", "is no cell"),
        ("1/,", "is no cell"),
    ],
)
def test_what_names_no_cells_is_refused_with_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        AssociatorConfig(regions=[{"owner": "0", "cells": text}])


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"replicas": 2}, "several associators need"),
        ({"regions": [{"owner": "0", "cells": "0/0"}, {"owner": "1", "cells": "0/1"}]}, "each owner should run"),
        ({"regions": [{"owner": "0", "cells": "0/0-5"}, {"owner": "1", "cells": "1/20-47"}]}, "own cell 0/5"),
        ({"regions": [{"owner": "0", "cells": "0/0-5"}, {"owner": "0", "cells": "0/6-11"}]}, "owns two"),
        (
            {"regions": [{"owner": "0", "cells": "0/0"}], "margin_deg": 0.1, "no_beam_limit_deg": 0.2},
            r"margin_deg = 0.1 degrees is less than no_beam_limit_deg = 0.2",
        ),
    ],
)
def test_owners_that_overlap_or_do_not_run_are_refused(settings: dict, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        AssociatorConfig(**settings)


def test_a_common_cell_is_found_whatever_the_orders() -> None:
    assert common_cell(ranges_of("0/0-5"), ranges_of("0/6-11")) is None
    assert common_cell(ranges_of(WHOLE_SKY), ranges_of("5/777")) == "5/777"
    assert common_cell(ranges_of("3/1 7/80000"), ranges_of("7/79999-80001")) == "7/80000"
    assert ranges_of("1/0-3").tolist() == ranges_of("0/0").tolist() == ranges_of("1/2 1/0-1,3").tolist()
