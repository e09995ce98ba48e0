"""Whoever is how fast: the same objects, points, values and forks, and exactly one point per pair."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from astropy import units as u
from astropy_healpix import HEALPix

from associator_world import SETTINGS, World, night, points, states
from trapline.associator.coverage import spot_of
from trapline.common.region import covers
from trapline.schemas.columns import Kind, Link, array_to_ids
from trapline.schemas.image import Image
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message

IMAGES = 50
GONE = frozenset({5, 6, 20, 33})


def run(seed: int, chance: int, gone: frozenset[int] = frozenset()) -> World:
    return World(np.random.default_rng([seed, chance]), gone=gone).run(night(seed, IMAGES))


@pytest.mark.parametrize("seed", range(2))
def test_timing_changes_no_point_no_value_and_no_fork(seed: int) -> None:
    first, others = run(seed, 0), [run(seed, chance) for chance in (1, 2)]
    expected, forks = points(first), [(r.header.forks, r.header.retired) for r in first.told if r.header.forks]
    newest = states(first)
    assert Counter(row[3][0] for row in expected.values()).keys() >= {Kind.BLIND, Kind.FORCED, Kind.BACKFILL}
    assert forks
    for other in others:
        assert points(other) == expected
        assert [(r.header.forks, r.header.retired) for r in other.told if r.header.forks] == forks
        again = states(other)
        assert again.keys() == newest.keys()
        for key, values in newest.items():
            assert again[key] == pytest.approx(values, rel=1e-9, abs=1e-12, nan_ok=True)


@dataclass
class Life:
    """What is known of an object from its blind points alone."""

    born: int
    watch: tuple[float, float]
    n_blind: int
    misses: int = 0
    step_us: int = 0
    step_matched: bool = True
    retired: bool = False
    due: set[int] = field(default_factory=set)
    """numbers of the images in which it has a point"""


def covered(of: Image, watch: tuple[float, float]) -> bool:
    assert of.band
    healpix = HEALPix(nside=1 << spot_of(of, (of.band.name, "I"), SETTINGS).order, order="nested")
    cell = healpix.lonlat_to_healpix(watch[0] * u.deg, watch[1] * u.deg)
    lon, lat = healpix.healpix_to_lonlat(np.array([cell]))
    return bool(covers(of, lon.deg, lat.deg)[0])


def lives(world: World) -> dict[bytes, Life]:
    """Follow every object image by image, from the blind points, by the rules as they are written."""
    found: dict[bytes, Life] = {}
    watermark, recent = 0, dict[str, list[int]]()
    for number, record in enumerate(r for r in world.told if r.header.request is None):
        of = world.images[number]
        assert record.header.image
        assert record.header.image.id == of.id
        assert of.band
        t_us = of.t_start_us or 0
        for fork in record.header.forks:
            found[fork.parent].retired = True
        matched = set(array_to_ids(record.arrays["object_id"][record.arrays["kind"] == Kind.BLIND]))
        for id_, life in found.items():
            if not life.retired and covered(of, life.watch):
                if t_us >= watermark and life.step_us < t_us:
                    life.misses += not life.step_matched
                    life.step_us, life.step_matched = t_us, False
                if id_ not in matched and life.misses < SETTINGS.expiration:
                    life.due.add(number)
        match(world, record, number, found, late=t_us < watermark)
        for life in found.values():
            if life.born == number and life.n_blind == 1:
                life.due |= {k for band in recent.values() for k in band if covered(world.images[k], life.watch)}
        recent[of.band.name] = [*recent.get(of.band.name, []), number][-SETTINGS.backfill :]
        watermark = max(watermark, t_us)
    return found


def match(world: World, record: Message[Lightcurves], number: int, found: dict[bytes, Life], *, late: bool) -> None:
    """Take the blind points of an image into the lives of its objects."""
    t_us = world.images[number].t_start_us or 0
    parents = {child: found[fork.parent] for fork in record.header.forks for child in fork.children}
    for row in np.nonzero(record.arrays["kind"] == Kind.BLIND)[0].tolist():
        id_, link = record.arrays["object_id"][row].tobytes(), record.arrays["link"][row]
        at = float(record.arrays["object_ra_deg"][row]), float(record.arrays["object_dec_deg"][row])
        if link == Link.NEW:
            found[id_] = Life(number, at, 0, step_us=t_us)
        elif id_ in parents:
            found[id_] = Life(number, at, parents[id_].n_blind, step_us=parents[id_].step_us)
        life = found[id_]
        life.n_blind += 1
        if math.log2(life.n_blind).is_integer() or link == Link.FORKED:
            life.watch = at
        life.misses = 0
        if not late:
            life.step_us, life.step_matched = t_us, True
        life.due.add(number)


@pytest.mark.parametrize("seed", range(2))
def test_every_object_has_exactly_one_point_in_each_image_that_owes_it_one(seed: int) -> None:
    world = run(seed, 7, GONE)
    number_of = {of.id: number for number, of in world.images.items()}
    had: dict[bytes, list[int]] = {}
    not_measured = Counter[int]()
    for image_id, object_id, *_, flux, _ in points(world).values():
        had.setdefault(object_id, []).append(number_of[image_id])
        not_measured[number_of[image_id]] += math.isnan(np.frombuffer(flux)[0])
    expected = lives(world)
    assert had.keys() == expected.keys()
    for object_id, life in expected.items():
        assert sorted(had[object_id]) == sorted(life.due), "exactly one each"
    assert +not_measured, "pixels were gone"
    assert (+not_measured).keys() <= GONE
    assert sum(len(life.due) for life in expected.values()) > 700
    assert any(life.retired for life in expected.values())
    assert world.state.requests == {}
