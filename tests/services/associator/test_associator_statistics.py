from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from trapline.associator.statistics import STATISTIC, BandStatistics, add_points, summarise

Float = npt.NDArray[np.float64]


def two_pass(flux: Float, err: Float) -> tuple[float, float, float, float]:
    """Return (mean, weighted mean, V, eta) from all points at once, with exact sums."""
    n, weight = len(flux), err**-2.0
    mean = math.fsum(flux) / n
    weighted = math.fsum(weight * flux) / math.fsum(weight)
    std = math.sqrt(math.fsum((flux - mean) ** 2) / (n - 1))
    return mean, weighted, std / mean, math.fsum(weight * (flux - weighted) ** 2) / (n - 1)


def online(flux: Float, err: Float) -> dict[str, float]:
    rows = np.zeros(1, STATISTIC)
    for k in range(len(flux)):
        rows = add_points(rows, flux[k : k + 1], err[k : k + 1], blind=True, t_us=k)
    return {name: float(column[0]) for name, column in summarise(rows).items()}


def agree(flux: Float, err: Float, rel: float = 1e-9) -> None:
    mean, weighted, v, eta = two_pass(flux, err)
    found = online(flux, err)
    assert found["n"] == len(flux)
    assert found["flux_mean"] == pytest.approx(mean, rel=rel)
    assert found["flux_mean_weighted"] == pytest.approx(weighted, rel=rel)
    assert found["flux_std"] == pytest.approx(v * mean, rel=rel)
    assert found["v"] == pytest.approx(v, rel=rel)
    assert found["eta"] == pytest.approx(eta, rel=rel)


@pytest.mark.parametrize("snr", [3.0, 1e6])
@pytest.mark.parametrize("start", ["typical", "outlier", "trend"])
def test_online_equals_two_passes_for_a_bright_steady_source(snr: float, start: str) -> None:
    rng = np.random.default_rng(4)
    n = 10_000
    err = rng.uniform(0.5, 2.0, n)
    flux = snr + rng.normal(0, err)
    if start == "outlier":
        flux[0] *= 100
    if start == "trend":
        flux += np.linspace(0, snr, n)
    agree(flux, err)


def test_a_source_of_a_hundred_million_sigma_keeps_its_digits() -> None:
    rng = np.random.default_rng(5)
    err = rng.uniform(0.5, 2.0, 20_000)
    agree(1e8 + rng.normal(0, err), err, rel=1e-12)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_online_equals_two_passes_after_a_million_points() -> None:
    rng = np.random.default_rng(8)
    err = rng.uniform(0.5, 2.0, 1_000_000)
    agree(1e6 + rng.normal(0, err), err)


def test_hand_computed() -> None:
    # Fluxes 1, 2, 3 of errors 1, 1, 1/2: mean 2, variance 1; weights 1, 1, 4: mean 15/6 = 2.5,
    # chi^2 = 2.25 + 0.25 + 4 x 0.25 = 3.5 over two degrees of freedom.
    found = online(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.5]))
    assert found["flux_mean"] == pytest.approx(2.0)
    assert found["flux_std"] == pytest.approx(1.0)
    assert found["v"] == pytest.approx(0.5)
    assert found["flux_mean_weighted"] == pytest.approx(2.5)
    assert found["eta"] == pytest.approx(1.75)


def test_one_point_has_no_variability() -> None:
    found = online(np.array([5.0]), np.array([0.1]))
    assert (found["n"], found["flux_std"], found["v"], found["eta"]) == (1, 0.0, 0.0, 0.0)
    assert found["flux_mean"] == found["flux_mean_weighted"] == 5.0


def test_equal_points_have_none_either() -> None:
    found = online(np.full(50, 0.1), np.full(50, 0.3))
    assert (found["flux_std"], found["v"], found["eta"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("flux", "eta"), [([-1.0, -2.0], 0.5), ([-1.0, 1.0], 2.0)])
def test_v_is_not_measured_where_the_mean_is_not_positive(flux: list[float], eta: float) -> None:
    found = online(np.array(flux), np.ones(2))
    assert math.isnan(found["v"])
    assert found["eta"] == pytest.approx(eta)


def test_bands_give_rows_to_those_objects_that_have_points() -> None:
    band = BandStatistics()
    rows = band.add(np.array([7, 2]), np.array([1.0, 2.0]), np.ones(2), blind=True, t_us=50)
    assert rows["last_seen_us"].tolist() == [50, 50]
    rows = band.add(np.array([2, 9]), np.array([4.0, 5.0]), np.ones(2), blind=True, t_us=40)
    assert rows["n"].tolist() == [2, 1]
    assert rows["flux_min"].tolist() == [2.0, 5.0]
    assert rows["flux_max"].tolist() == [4.0, 5.0]
    assert rows["last_seen_us"].tolist() == [50, 40], "a late image is not the last one"
    assert len(band.table) == 3


def test_forced_points_count_apart_and_are_not_sightings() -> None:
    band, one = BandStatistics(), np.array([0])
    band.add(one, np.array([1.0]), np.ones(1), blind=False, t_us=10)
    rows = band.add(one, np.array([2.0]), np.ones(1), blind=True, t_us=-5)
    assert (rows["n"][0], rows["n_blind"][0], rows["last_seen_us"][0]) == (2, 1, -5)


def test_the_order_of_objects_in_one_call_changes_no_bit() -> None:
    rng = np.random.default_rng(1)
    flux, err, order = rng.normal(5, 1, (3, 33)), rng.uniform(0.1, 1, (3, 33)), rng.permutation(33)
    straight = shuffled = np.zeros(33, STATISTIC)
    for f, e in zip(flux, err, strict=True):
        straight = add_points(straight, f, e, blind=True, t_us=0)
        shuffled = add_points(shuffled, f[order], e[order], blind=True, t_us=0)
    assert straight[order].tobytes() == shuffled.tobytes()
