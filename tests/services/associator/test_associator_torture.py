"""`kill -9` of the associator alone, again and again: the points, forks and statistics are those of a run without."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from associator_images import image, sources
from associator_journals import Journals, associator
from associator_world import World, points, states
from trapline.common.sky import from_tangent
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.columns import Kind, Link
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from waiting import wait_for

FIELDS = 10
ERROR_DEG = 0.002


def wide_night(seed: int, per_field: int, images: int) -> list[Message[Sources]]:
    """Return images of ten fields, two of each in turn, each with its own objects, most of which are seen each time."""
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-9, 9, (2, FIELDS, per_field))
    # A tenth of the stars stand so close to another one that they fork it or share with it.
    crowd = per_field // 10
    east[:, :crowd] = east[:, crowd : 2 * crowd] + rng.normal(0, 3 * ERROR_DEG, (FIELDS, crowd))
    north[:, :crowd] = north[:, crowd : 2 * crowd]
    records = []
    for number in range(images):
        field = number // 2 % FIELDS  # twice in a row: what the second image finds is looked for in the first
        centre = 36.0 * field
        of = image(number, ra_deg=centre, dec_deg=30.0, shape=(600, 600), pixel_deg=0.04, beam_deg=0.05)
        seen = rng.random(per_field) < 0.95
        e, n = (axis[field, seen] + rng.normal(0, ERROR_DEG, seen.sum()) for axis in (east, north))
        ra, dec = from_tangent(e, n, centre, 30.0)
        records.append(sources(of, ra % 360, dec, rng.normal(5, 1, len(ra)), error_deg=ERROR_DEG))
    return records


def tortured(tmp_path: Path, records: list[Message[Sources]], seed: int) -> tuple[World, int]:
    """Fold a night with an associator that is killed after every few records, and return what it said."""
    random, kills, config = np.random.default_rng(seed), 0, mesh_config(tmp_path)
    journals, added = Journals(config.journal_directory), 0
    with running_relay(config), contextlib.closing(journals):
        while True:
            with associator(config.data_directory) as child:
                until = journals.said("lightcurves") + int(random.integers(0, max(len(records) // 4, 2)))
                while journals.said("lightcurves") <= until:
                    if added < len(records) and random.random() < 0.5:
                        journals.add(added, records[added])
                        added += 1
                    said, asked = journals.said("lightcurves"), journals.answer()
                    if added == len(records) and said == added + asked == added + journals.due():
                        break
                    assert child.poll() is None
                    if added == len(records):
                        wait_for(lambda now=(said, asked): journals.counts() != now)
                else:
                    kills += 1
                    continue  # killed in the midst of what comes next
            break
        told = list(journals.read("lightcurves"))
    world = World(random)
    world.told = told
    return world, kills


def check(tmp_path: Path, per_field: int, images: int) -> None:
    records = wide_night(5, per_field, images)
    undisturbed = World(np.random.default_rng(1)).run(records)
    world, kills = tortured(tmp_path, records, 5)
    assert kills >= 4
    expected = points(undisturbed)
    assert points(world) == expected
    assert {row[3][0] for row in expected.values()} >= {Kind.BLIND, Kind.FORCED, Kind.BACKFILL}
    assert {row[4][0] for row in expected.values()} >= {Link.NEW, Link.FORKED, Link.SHARED, Link.FORCED}
    forks = [[r.header.forks for r in one.told if r.header.forks] for one in (world, undisturbed)]
    assert forks[0] == forks[1]
    newest, again = states(undisturbed), states(world)
    assert again.keys() == newest.keys()
    keys = list(newest)
    values = [np.array([found[key] for key in keys]) for found in (again, newest)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9, atol=1e-12)


@pytest.mark.timeout(300)
def test_kills_change_no_point_no_fork_and_no_statistic(tmp_path: Path) -> None:
    check(tmp_path, per_field=100, images=24)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_soak_with_a_hundred_thousand_objects(tmp_path: Path) -> None:
    check(tmp_path, per_field=10_000, images=60)
