"""Each rule and veto against values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trapline.schemas.columns import Flag, Kind
from trapline.schemas.image import Band, Beam, Image
from trapline.transient_finder import rules
from trapline.transient_finder.config import BadRegion, FinderConfig
from trapline.transient_finder.points import Context
from trapline.transient_finder.vetoes import first_vetoes

DEVIATION = {"sigma": 6.5, "flux_sys_frac": 0.06, "min_points": 10.0, "hysteresis": 0.8}
BEAM = Beam(0.1, 0.1, 0.0)
VARIATION = {"min_points": 20.0, "hysteresis": 0.8}


def columns(**values: Any) -> dict[str, np.ndarray]:
    return dict(zip(values, np.broadcast_arrays(*map(np.asarray, values.values())), strict=True))


def test_a_new_source_is_possible_above_the_lower_limit_after_enough_images():
    points = columns(
        flux_peak=[0.9, 1.0, 1.01, 2.01, 5.0, 5.0], flux_peak_err=0.5, limit_low=[1.0] * 5 + [np.nan],
        n_earlier=[10, 10, 10, 10, 9, 99],
    )  # fmt: skip
    found = rules.new_source(points, {"warm_up": 10.0})
    assert found.holds.tolist() == [False, False, True, True, False, False]
    assert found.significance[2:4] == pytest.approx([0.02, 2.02])


def test_an_unknown_error_of_the_peak_leaves_the_significance_unknown():
    points = columns(flux_peak=5.0, flux_peak_err=[np.nan, 0.0, -1.0, 2.0], limit_low=1.0, n_earlier=99)
    found = rules.new_source(points, {"warm_up": 1.0})
    assert found.holds.all()
    assert found.significance == pytest.approx([np.nan, np.nan, np.nan, 2.0], nan_ok=True)


def test_nan_is_never_new():
    points = columns(flux_peak=[np.nan], flux_peak_err=1.0, limit_low=1.0, n_earlier=50)
    assert not rules.new_source(points, {"warm_up": 1.0}).holds.any()


@pytest.mark.parametrize(("sigmas", "flares", "fades"), [(6.49, 0, 0), (6.51, 1, 0), (-6.49, 0, 0), (-6.51, 0, 1)])
def test_flares_and_fades_are_measured_in_all_their_uncertainties(sigmas, flares, fades):
    # Errors 0.3 and 0.4, and 6 % of 20 = 1.2: together 1.3.
    points = columns(flux_int=[20 + 1.3 * sigmas], flux_int_err=0.3, mean=20.0, mean_err=0.4, n_before=10)
    up, down = rules.flare(points, DEVIATION), rules.fade(points, DEVIATION)
    assert (up.holds.sum(), down.holds.sum()) == (flares, fades)
    assert up.significance == pytest.approx([sigmas])
    assert down.significance == pytest.approx([-sigmas])
    assert (up.judged.sum(), down.judged.sum()) == (flares or sigmas < 0, fades or sigmas > 0), "else it goes on"
    few = {**points, "n_before": np.array([9])}
    for rule in (rules.flare, rules.fade):
        found = rule(few, DEVIATION)
        assert not found.holds.any()
        assert not found.judged.any()


def test_a_variable_is_beyond_both_thresholds_and_steady_well_below_one_of_them():
    points = columns(
        v_now=[0.31, 0.31, 0.29, 0.31, 0.25, 0.23, np.nan], eta_now=[3.1, 2.9, 3.1, 2.3, 3.1, 9.0, 9.0],
        n_now=[51, 51, 51, 51, 51, 51, 51], v_threshold=0.3, eta_threshold=3.0,
    )  # fmt: skip
    found = rules.variable(points, VARIATION)
    assert found.holds.tolist() == [True] + [False] * 6
    assert found.judged.tolist() == [True, False, False, True, False, True, False]
    assert found.significance[0] == pytest.approx(2.1 * 5)  # (3.1 - 1) sqrt(50 / 2)
    few = rules.variable({**points, "n_now": np.full(7, 19)}, VARIATION)
    assert not few.holds.any()
    assert not few.judged.any()


def test_what_must_have_been_seen_five_times_and_was_not_has_disappeared():
    pairs = columns(
        misses=[4, 5, 6, 5, 5], brightest=[9.0, 9.0, 9.0, 3.0, 9.0], brightest_err=0.5,
        missed_limit=[3.0, 3.0, 3.0, 3.0, np.inf],
    )  # fmt: skip
    found = rules.disappeared(pairs, {"misses": 5.0})
    assert found.holds.tolist() == [False, True, True, False, False]
    assert found.significance[1] == pytest.approx(12.0)


def candidates(n: int, **given: Any) -> dict[str, np.ndarray]:
    values = {
        "flags": np.zeros(n, np.uint32), "kind": np.zeros(n, np.uint8), "object_ra_deg": 0.0, "object_dec_deg": 60.0,
        "flux_peak": 5.0, "flux_peak_err": 0.1, "flux_int": 5.0, "flux_int_err": 0.1, "amplitude": 5.0,
    } | given  # fmt: skip
    return {name: np.broadcast_to(value, (n,)) for name, value in values.items()}


def context(*bright: tuple[float, float, float], beam: Beam | None = BEAM) -> Context:
    image = Image(id=bytes(16), band=Band("b"), t_start_us=0, beam=beam)
    return Context(image, Band("b"), 0, bytes(16), "default", None, bright)


def vetoes(kind: str, points: dict[str, np.ndarray], settings: FinderConfig | None = None, n_new: int = 0, *bright):
    return first_vetoes(kind, points, context(*bright), settings or FinderConfig(), n_new)


def test_flags_veto_and_the_first_reason_counts():
    flags = [0, Flag.NEAR_EDGE, Flag.NEGATIVE, Flag.NEAR_EDGE | Flag.NEGATIVE, Flag.BLENDED, Flag.NEAR_BRIGHT]
    found = vetoes("flare", candidates(6, flags=np.array(flags, np.uint32)))
    assert found == [None, "near_edge", "negative", "near_edge", None, "near_bright"]


def test_too_many_new_sources_make_a_bad_image():
    settings = FinderConfig(bad_image_new_sources=3)
    assert vetoes("new_source", candidates(1), settings, 3) == [None]
    assert vetoes("new_source", candidates(1), settings, 4) == ["bad_image"]
    assert vetoes("flare", candidates(1), settings, 4) == [None]


@pytest.mark.parametrize("ra", [0.0, 359.9])
def test_known_bad_regions_are_circles_on_the_sky(ra):
    # 0.4 degrees of right ascension are 0.2 on the sky at 60 degrees.
    region = BadRegion(ra_deg=ra, dec_deg=60.0, radius_deg=0.21)
    settings = FinderConfig(bad_regions=(region,))
    points = candidates(3, object_ra_deg=np.array([ra - 0.4, ra + 0.4, ra + 0.5]) % 360)
    for kind in ("new_source", "disappeared", "variable", "doubled"):
        assert vetoes(kind, points, settings) == ["bad_region", "bad_region", None]


def test_side_lobes_are_faint_beside_a_bright_source():
    # A source of 100 at 0.3 degrees, three beams away: changes of 5 or less may be its side lobes.
    bright = (0.0, 60.3, 100.0)
    points = candidates(3, amplitude=np.array([4.9, 5.1, 4.9]), object_dec_deg=np.array([60.0, 60.0, 59.75]))
    assert vetoes("new_source", points, None, 0, bright) == ["near_bright", None, None]
    assert vetoes("variable", points, None, 0, bright) == [None] * 3
    itself = (0.0, 60.0, 100.0)
    assert vetoes("flare", points, None, 0, itself)[0] is None, "a source is no side lobe of itself"
    assert first_vetoes("flare", points, context(bright, beam=None), FinderConfig()) == [None] * 3


def test_what_is_wider_than_a_point_source_does_not_appear():
    # 2 x 5 = 10; the excess counts from 3 sqrt(0.1^2 + 0.3^2) = 0.95.
    points = candidates(4, flux_int=np.array([10.9, 11.0, 11.0, 5.0]), flux_int_err=0.3,
                        kind=np.array([0, 0, Kind.FORCED, 0], np.uint8),
                        flags=np.array([0, 0, 0, Flag.EXTENDED], np.uint32))  # fmt: skip
    assert vetoes("new_source", points) == [None, "elongated", None, "elongated"]
    assert vetoes("flare", points) == [None] * 4
