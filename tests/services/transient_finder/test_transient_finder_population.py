"""Thresholds fitted to a population: against distributions that are known, and kept up to date point by point."""

from __future__ import annotations

import numpy as np
import pytest

from finder_records import record, run
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState
from trapline.transient_finder.judging import thresholds_of
from trapline.transient_finder.population import CENTRES, N_BINS, Population, bins_of, fit


def counts(values: np.ndarray) -> np.ndarray:
    return np.bincount(bins_of(values, np.ones(len(values), bool)), minlength=N_BINS + 1)[1:]


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.1), (-1.5, 0.4), (2.0, 0.05)])
def test_the_fit_finds_a_log_normal_among_outliers(mean, sigma):
    rng = np.random.default_rng(3)
    values = 10 ** rng.normal(mean, sigma, 20_000)
    values[:400] = 10 ** (mean + 10 * sigma)  # 2 % that vary
    found = fit(counts(values))
    assert found.mean == pytest.approx(mean, abs=0.02)
    # Clipping at 3 sigma takes 1.4 % of the width away; bins add their own.
    assert found.sigma == pytest.approx(np.hypot(sigma, 0.04 / np.sqrt(12)), rel=0.05)
    assert found.threshold(3.0) == pytest.approx(10 ** (mean + 3 * sigma), rel=0.2)


def test_what_is_no_number_is_not_counted_and_extremes_have_a_bin():
    bins = bins_of(np.array([np.nan, 0.0, -1.0, np.inf, 1e-9, 1e9, 1.0]), np.ones(7, bool))
    assert bins.tolist()[:6] == [0, 0, 0, 0, 1, N_BINS]
    assert CENTRES[bins[6] - 1] == pytest.approx(1.0, rel=0.05)
    assert bins_of(np.ones(2), np.array([True, False])).tolist()[1] == 0
    assert np.isnan(fit(np.zeros(N_BINS, np.int64))).all()


def test_objects_of_one_value_have_the_width_of_a_bin():
    found = fit(counts(np.ones(100)))
    assert 0 < found.sigma < 0.03


def test_small_populations_use_fixed_thresholds_and_fitted_ones_are_never_below_these():
    settings = FinderConfig(population_min=100, v_min=0.1, eta_min=3.0, variable_sigma=3.0)
    population = Population()
    v, eta = np.full(99, 0.5), np.full(99, 0.5)
    everyone = np.ones(99, bool)
    population.add(bins_of(v, everyone), bins_of(eta, everyone))
    assert [c[0] for c in thresholds_of(population, settings, 1).values()] == [0.1, 3.0]
    population.add(bins_of(v[:1], everyone[:1]), bins_of(eta[:1], everyone[:1]))
    v_limit, eta_limit = (c[0] for c in thresholds_of(population, settings, 1).values())
    assert v_limit == pytest.approx(0.5, rel=0.2)
    assert v_limit > 0.5
    assert eta_limit == 3.0
    fixed = settings.model_copy(update={"variable_thresholds": "fixed"})
    assert [c[0] for c in thresholds_of(population, fixed, 1).values()] == [0.1, 3.0]


def test_the_histograms_are_those_of_all_objects_as_they_are_now():
    settings = FinderConfig(variable_min_points=5)
    rng, state = np.random.default_rng(5), FinderState()
    run([record(k, range(150), rng.normal(5, 0.1, 150) * (1 + 0.3 * rng.random(150))) for k in range(12)],
        settings, state)  # fmt: skip
    (sky,) = state.skies.values()
    history = sky.bands["60 MHz", "I"]
    again = Population()
    again.add(history.table.rows["v_bin"], history.table.rows["eta_bin"])
    assert len(history.population) == 150
    assert (history.population.counts[1:] == again.counts[1:]).all()


def test_one_variable_among_steady_ones_is_found_with_fitted_thresholds():
    # All vary by 20 %, as through a bad ionosphere, which the fixed thresholds would all announce; one by 300 %.
    rng = np.random.default_rng(6)
    flux = 10 * (1 + 0.2 * rng.normal(size=(60, 100)))
    flux[:, 42] = 10 + 30 * (np.arange(60) % 2)
    records = [record(k, range(100), flux[k], flux_int_err=0.2) for k in range(60)]
    only_variable = {"flare_sigma": 1e6, "variable_min_points": 20}
    found = [m.header for judged in run(records, FinderConfig(**only_variable)) for m in judged.messages]
    assert {h.object_id for h in found} == {records[0].arrays["object_id"][42].tobytes()}
    assert found[0].rule["v_threshold"] > 0.25
    fixed = run(records, FinderConfig(variable_thresholds="fixed", **only_variable))
    assert len({m.header.object_id for judged in fixed for m in judged.messages}) == 100


@pytest.mark.parametrize("variables", [10, 40], ids=lambda n: f"{n} variables")
def test_many_variables_among_stars_of_all_brightnesses_do_not_hide_one_another(variables):
    # V of a steady star is its noise over its flux: from 0.003 to 0.1. A third of all vary by half.
    rng = np.random.default_rng(8)
    mean = 10 ** rng.uniform(0, 1.5, 120)
    flux = mean * np.ones((60, 120))
    flux[:, :variables] *= 1 + 0.5 * np.sin(np.arange(60)[:, None] / 3 + rng.uniform(0, 6, variables))
    flux += rng.normal(0, 0.1, flux.shape)
    quiet = FinderConfig(flare_sigma=1e6, population_min=50)
    found = run([record(k, range(120), flux[k]) for k in range(60)], quiet)
    last = {m.header.object_id: m.header.alert_type for judged in found for m in judged.messages}
    assert len(last) == variables
    assert "retraction" not in last.values()
