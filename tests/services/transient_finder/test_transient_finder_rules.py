from __future__ import annotations

import numpy as np
import pytest

from trapline.schemas.columns import Flag
from trapline.transient_finder.rules import Thresholds, flare, new_source
from trapline.transient_finder.vetoes import VETOES, Vetoes


def test_a_new_source_is_possible_above_low_and_certain_above_high() -> None:
    flux = np.array([0.9, 1.0, 1.01, 2.0, 2.01, 5.0, 5.0])
    n_earlier = np.array([10, 10, 10, 10, 10, 9, 0], np.uint32)
    low, high = np.array([1.0] * 6 + [np.nan]), np.array([2.0] * 6 + [np.nan])
    found = new_source(flux, np.full(7, 0.5), low, high, n_earlier, warm_up=10)
    assert found.possible.tolist() == [False, False, True, True, True, False, False]
    assert found.certain.tolist() == [False, False, False, False, True, False, False]
    assert found.significance[2:5] == pytest.approx([0.02, 2.0, 2.02])


def test_an_unknown_error_of_the_peak_leaves_the_significance_unknown() -> None:
    ones = np.ones(4)
    found = new_source(5 * ones, np.array([np.nan, 0.0, -1.0, 2.0]), ones, 2 * ones, np.full(4, 99), warm_up=1)
    assert found.possible.all()
    assert found.significance == pytest.approx([np.nan, np.nan, np.nan, 2.0], nan_ok=True)


def test_nan_is_never_new() -> None:
    nan, one = np.array([np.nan]), np.ones(1)
    assert not new_source(nan, one, one, one, np.array([50]), warm_up=1).possible.any()


def test_a_flare_is_measured_in_all_its_uncertainties() -> None:
    # Errors 0.3 and 0.4, and 6 % of 20 = 1.2: together 1.3.
    args = np.array([0.3]), np.array([20.0]), np.array([0.4]), np.array([10])
    for sigmas, above in ((6.49, False), (6.51, True), (-9.0, False)):
        found = flare(20 + 1.3 * np.array([sigmas]), *args, Thresholds(6.5, 0.06, 10))
        assert found.sigmas == pytest.approx([sigmas])
        assert (found.judged[0], found.above[0]) == (True, above)
    few = flare(np.array([100.0]), *args, Thresholds(6.5, 0.06, 11))
    assert not few.judged.any()
    assert not few.above.any()


def test_the_first_veto_counts_what_it_suppresses() -> None:
    flags = np.array([0, Flag.NEAR_EDGE, Flag.NEGATIVE, Flag.NEAR_EDGE | Flag.NEGATIVE, Flag.BLENDED], np.uint32)
    suppressed = dict[str, int]()
    vetoes = Vetoes({"flags": flags}, suppressed)
    assert vetoes.passing(np.ones(5, bool)).tolist() == [True, False, False, False, True]
    assert suppressed == {"near_edge": 2, "negative": 1}
    assert not vetoes.passing(np.zeros(5, bool)).any()
    assert suppressed == {"near_edge": 2, "negative": 1}
    assert [veto.__name__ for veto in VETOES] == ["near_edge", "negative"]
