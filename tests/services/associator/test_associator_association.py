from __future__ import annotations

import math

import numpy as np
import pytest

from associator_images import image, rows_permuted, sources
from trapline.associator.association import associate, deruiter_radius, search_radius_deg
from trapline.associator.catalogue import Catalogue, Positions
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, step
from trapline.common.sky import separation_deg
from trapline.schemas.columns import Link
from trapline.schemas.image import Beam

SETTINGS = AssociatorConfig()
NEAREST = AssociatorConfig(method="nearest")
ARCSEC = 1 / 3600


def at(ra_deg: object, dec_deg: object, err_ew_deg: object = 0.01, err_ns_deg: object = 0.01) -> Positions:
    columns = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, float)) for v in (ra_deg, dec_deg, err_ew_deg, err_ns_deg))
    )
    return Positions(*(column.copy() for column in columns))


def catalogue_of(positions: Positions, ids: np.ndarray | None = None) -> Catalogue:
    catalogue = Catalogue()
    if ids is None:
        ids = np.arange(16 * len(positions), dtype=np.uint8).reshape(-1, 16)
    catalogue.move(catalogue.found(ids, positions, 0), positions)
    return catalogue


def nearest(sources: Positions, catalogue: Catalogue, radius_deg: float) -> list[int]:
    """Return the object of each source, joined one to one: -1 where it founds one."""
    joined = associate(sources, catalogue, radius_deg, NEAREST)
    assert joined.source.tolist() == list(range(len(sources)))
    return joined.object_row.tolist()


def test_the_radius_is_the_offset_in_units_of_both_errors() -> None:
    # 0.3 deg of right ascension at dec 60 is 0.15 deg on the sky; errors 0.03 and 0.04 together are 0.05: 3 east.
    # 0.4 deg north, errors 0.06 and 0.08 together 0.1: 4 north. 3-4-5.
    radius = deruiter_radius(at(10.3, 60.2, 0.03, 0.06), at(10.0, 59.8, 0.04, 0.08))
    assert radius == pytest.approx([5.0], rel=1e-12)


@pytest.mark.parametrize("ra_deg", [0.0, 90.0, 180.0, 270.0])
@pytest.mark.parametrize("dec_deg", [-89.9, -80.0, -45.0, 0.0, 45.0, 79.0, 81.0, 89.9, 89.999])
def test_the_radius_is_the_same_at_every_right_ascension(ra_deg: float, dec_deg: float) -> None:
    step_deg = 0.01
    across = step_deg / math.cos(math.radians(dec_deg))
    east, west = at((ra_deg + across) % 360, dec_deg), at((ra_deg - across) % 360, dec_deg)
    distance = separation_deg(east.ra_deg, dec_deg, west.ra_deg, dec_deg)[0]
    assert deruiter_radius(east, west) == pytest.approx([distance / math.hypot(0.01, 0.01)], rel=1e-4)


def test_a_pair_across_the_pole_is_as_far_apart_as_it_is() -> None:
    for dec in (89.99, -89.99):
        assert deruiter_radius(at(30, dec), at(210, dec)) == pytest.approx([0.02 / math.hypot(0.01, 0.01)], rel=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_formula_and_plane_agree_where_they_meet(sign: int) -> None:
    rng = np.random.default_rng(3)
    ra, dec = 120 + rng.normal(0, 0.02, 100), 80 - np.abs(rng.normal(0, 0.02, 100))
    below = deruiter_radius(at(np.full(100, 120), sign * 79.9999999), at(ra, sign * dec))
    above = deruiter_radius(at(np.full(100, 120), sign * 80.0000001), at(ra, sign * dec))
    assert np.abs(below - above).max() < 1e-4


def test_search_radius_is_three_semi_major_axes_or_one_arcsecond() -> None:
    assert search_radius_deg(Beam(2.0, 1.0, 0.0), SETTINGS) == pytest.approx(3.0)
    assert search_radius_deg(None, SETTINGS) == pytest.approx(ARCSEC)
    assert AssociatorConfig.model_validate({"no_beam_limit_deg": "2 arcsec"}).no_beam_limit_deg == pytest.approx(
        2 * ARCSEC
    )


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg"), [(0.0, 0.0), (359.9999, 40.0), (180.0, -60.0), (12.0, 90.0), (77.0, -90.0)]
)
def test_a_candidate_is_within_the_distance_and_the_radius(ra_deg: float, dec_deg: float) -> None:
    step_deg = -0.1 if dec_deg > 0 else 0.1
    catalogue = catalogue_of(at(ra_deg, dec_deg, 0.05, 0.05))
    r = abs(step_deg) / math.hypot(0.05, 0.05)
    source = at(ra_deg, dec_deg + step_deg, 0.05, 0.05)
    assert associate(source, catalogue, 0.1001, SETTINGS).object_row.tolist() == [0]
    assert associate(source, catalogue, 0.1001, SETTINGS).deruiter == pytest.approx([r], rel=1e-6)
    assert associate(source, catalogue, 0.0999, SETTINGS).object_row.tolist() == [-1]
    closer = AssociatorConfig(deruiter_radius=r * 1.0001), AssociatorConfig(deruiter_radius=r * 0.9999)
    assert [associate(source, catalogue, 1.0, s).object_row.tolist() for s in closer] == [[0], [-1]]


def test_images_without_a_beam_join_within_an_arcsecond() -> None:
    state = AssociatorState()
    first, second = image(0, beam_deg=None), image(1, beam_deg=None)
    step(state, first, sources(first, [10.0, 10.0], [50.0, 50.1], error_deg=ARCSEC), SETTINGS)
    moved = sources(second, [10.0, 10.0], [50.0 + 0.9 * ARCSEC, 50.1 + 1.1 * ARCSEC], error_deg=ARCSEC)
    links = step(state, second, moved, SETTINGS).messages[0].arrays["link"]
    assert links.tolist() == [Link.ONE_TO_ONE, Link.NEW]


def test_the_closest_pairs_are_taken_first_and_each_object_and_source_once() -> None:
    catalogue = catalogue_of(at(0.0, [0.00, 0.05]))
    # Source 0 is closest to object 1, source 1 closer still: source 0 falls back to object 0.
    assert nearest(at(0.0, [0.035, 0.049]), catalogue, 0.15) == [0, 1]
    # Three sources on two objects: the last one founds.
    assert nearest(at(0.0, [0.001, 0.049, 0.03]), catalogue, 0.15) == [0, 1, -1]


@pytest.mark.parametrize("swapped", [False, True])
def test_an_exact_tie_goes_to_the_smaller_object_id(swapped: bool) -> None:
    half = 2.0**-6  # exact in binary: both objects are equally far, to the last bit
    ids = np.zeros((2, 16), np.uint8)
    ids[:, 0] = [1, 2]
    ids[:, 15] = [9, 3]
    if swapped:
        ids = ids[::-1].copy()
    catalogue = catalogue_of(at([32 - half, 32 + half], 0.0), ids)
    assert nearest(at([32.0, 33.0], 0.0), catalogue, 1.0) == [1 if swapped else 0, -1]
    # Two sources on each of two objects: many-to-many, and each source keeps the smaller id, which forks.
    joined = associate(at([32.0, 32.0], 0.0), catalogue, 1.0, SETTINGS)
    assert joined.object_row.tolist() == [1 if swapped else 0] * 2
    assert joined.link.tolist() == [Link.FORKED] * 2


def test_an_exact_tie_of_sources_goes_to_the_lower_rank() -> None:
    half = 2.0**-6
    catalogue = catalogue_of(at(32.0, 0.0))
    for offsets in ([-half, half], [half, -half]):
        assert nearest(at(32.0 + np.array(offsets), 0.0), catalogue, 1.0) == [0, -1]


def test_rows_in_another_order_give_the_same_record_even_on_ties() -> None:
    half = 2.0**-6
    records = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        state = AssociatorState()
        first, second = image(0), image(1)
        step(state, first, sources(first, [32.0], [0.0]), SETTINGS)
        found = sources(second, [32.0 - half, 32.0 + half, 33.0], [0.0, 0.0, 0.0])
        records.append(step(state, second, rows_permuted(found, np.array(order)), SETTINGS).messages[0])
    for record in records[1:]:
        for name, array in records[0].arrays.items():
            assert array.tobytes() == record.arrays[name].tobytes(), name


def test_identical_positions_are_all_found_one_to_one() -> None:
    catalogue = catalogue_of(at(np.full(40, 200.0), -30.0))
    assert sorted(nearest(at(np.full(50, 200.0), -30.0), catalogue, 1.0)) == [-1] * 10 + list(range(40))


def test_a_beam_of_tens_of_degrees_is_survived() -> None:
    catalogue = catalogue_of(at([0.0, 120.0], 0.0, 10.0, 10.0))
    radius_deg = search_radius_deg(Beam(500.0, 400.0, 0.0), SETTINGS)
    matches = associate(at([20.0, 170.0, 250.0], 0.0, 10.0, 10.0), catalogue, radius_deg, SETTINGS)
    assert matches.object_row.tolist() == [0, -1, -1]
