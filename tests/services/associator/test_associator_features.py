"""The newest points of each object, whatever their arrival, and statistics of them against plain formulas."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from scipy import stats

from associator_images import T0_US, brought_along, image, record_of, sources
from associator_world import World, night
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, answer, step
from trapline.associator.features import features_of
from trapline.associator.history import History, Series
from trapline.associator.snapshot import dump, load
from trapline.schemas.columns import array_to_ids
from trapline.schemas.message import decode, encode
from trapline.schemas.watchlist import Remeasure

Float = npt.NDArray[np.float64]
ALL = ("moments", "ranks", "scatter", "slopes", "two_epoch", "times")
Point = tuple[int, int, float, float]


def kept(history: History, objects: int) -> list[list[tuple[int, float, float]]]:
    found: list[list[tuple[int, float, float]]] = [[] for _ in range(objects)]
    for which, series in history.series(np.arange(objects)):
        for row, t, flux, err in zip(which.tolist(), series.t_us, series.flux, series.flux_err, strict=True):
            found[row] = list(zip(t.tolist(), flux.tolist(), err.tolist(), strict=True))
    return found


def test_the_newest_points_are_kept_in_whatever_order_they_come() -> None:
    rng = np.random.default_rng(8)
    for limit in (2, 3, 16, 20, 64):
        history, points = History(limit), [[] for _ in range(9)]  # type: list[list[Point]]
        for key in rng.permutation(150).tolist():
            objects, t_us = rng.permutation(9)[:4], int(rng.integers(0, 40))
            flux = rng.normal(size=4)
            history.add(objects, t_us, np.full(4, key), flux, np.ones(4))
            for row, value in zip(objects.tolist(), flux.tolist(), strict=True):
                points[row].append((t_us, key, value, 1.0))
        expected = [[(t, f, e) for t, _, f, e in sorted(mine)[-limit:]] for mine in points]
        assert kept(history, 9) == expected


def test_children_have_the_history_of_their_parent_and_go_their_own_way() -> None:
    history, one = History(8), np.array([0])
    for t in range(6):
        history.add(one, t, one, np.array([float(t)]), np.ones(1))
    history.inherit(np.array([0, 0, 7]), np.array([1, 2, 3]))
    history.add(np.array([2]), 9, one, np.array([9.0]), np.ones(1))
    fluxes = [[flux for _, flux, _ in points] for points in kept(history, 4)]
    past = [float(t) for t in range(6)]
    assert fluxes == [past, past, [*past, 9.0], []]


def plain(t_us: Float, flux: Float, err: Float) -> dict[str, float]:
    """Return every feature by its textbook formula, point by point."""
    n, w = len(flux), [e**-2 for e in err]
    mean = math.fsum(a * b for a, b in zip(w, flux, strict=True)) / math.fsum(w)
    days = [float(t - t_us[0]) / 86_400e6 for t in t_us]
    pairs = [((flux[j] - flux[i]) / math.hypot(err[i], err[j]), i, j) for i, j in itertools.combinations(range(n), 2)]
    vs, i, j = max(pairs, key=lambda pair: abs(pair[0]), default=(math.nan, 0, 0))
    found = {
        "weighted_mean": mean,
        "weighted_mean_err": math.fsum(w) ** -0.5,
        "std": statistics.stdev(flux) if n > 1 else 0.0,
        "skewness": float(stats.skew(flux, bias=False)) if n > 2 else math.nan,
        "min": min(flux),
        "max": max(flux),
        "median": statistics.median(flux),
        "mad": statistics.median([abs(f - statistics.median(flux)) for f in flux]),
        "chi2": math.fsum(((f - mean) / e) ** 2 for f, e in zip(flux, err, strict=True)),
        "vs": vs,
        "m": 2 * (flux[j] - flux[i]) / (flux[j] + flux[i]) if n > 1 else math.nan,
        "first_s": t_us[0] / 1e6,
        "last_s": t_us[-1] / 1e6,
    } | {f"percentile_{p}": float(np.quantile(flux, p / 100)) for p in (5, 25, 75, 95)}
    if n > 1:
        delta = [(f - mean) / e * math.sqrt(n / (n - 1)) for f, e in zip(flux, err, strict=True)]
        found["stetson_j"] = sum(math.copysign(math.sqrt(abs(d * d - 1)), d * d - 1) for d in delta) / n
        found["slope"] = float(np.polyfit(days, flux, 1, w=np.array(w) ** 0.5)[0])
        steps = zip(itertools.pairwise(days), itertools.pairwise(flux), strict=True)
        found["slope_max"] = max(abs((b - a) / (u - t)) for (t, u), (a, b) in steps)
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 17, 64])
def test_features_are_those_of_plain_formulas(n: int) -> None:
    rng = np.random.default_rng(n)
    history, objects = History(64), np.arange(7)
    t_us = T0_US + np.cumsum(rng.integers(1, 10**9, n))
    flux, err = rng.normal(5, 2, (n, 7)), rng.uniform(0.2, 1, (n, 7))
    for k in range(n):
        history.add(objects, int(t_us[k]), np.full(7, k), flux[k], err[k])
    found = features_of(history, objects, ALL)
    for row in range(7):
        for name, value in plain(t_us, flux[:, row], err[:, row]).items():
            assert found[name][row] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True), name


def test_a_steady_bright_source_keeps_its_digits() -> None:
    history, rng = History(64), np.random.default_rng(2)
    noise = rng.normal(0, 1, 64)
    for k in range(64):
        history.add(np.array([0]), k, np.array([k]), np.array([1e8 + noise[k]]), np.ones(1))
    found = features_of(history, np.array([0]), ALL)
    assert found["weighted_mean"][0] - 1e8 == pytest.approx(noise.mean(), abs=1e-7)
    assert found["chi2"][0] == pytest.approx(((noise - noise.mean()) ** 2).sum(), rel=1e-6)


def amplitude(series: Series) -> Mapping[str, Float]:
    """Return half the range: a feature of somebody else."""
    return {"amplitude": np.ptp(series.flux, axis=1) / 2}


def test_a_record_carries_what_is_configured_also_of_ones_own() -> None:
    chosen, state = AssociatorConfig(features=("moments", f"{__name__}:amplitude")), AssociatorState()
    for number, flux in enumerate([4.0, 8.0]):
        folded = step(state, image(number), sources(image(number), [10.0, 10.3], 50.0, flux), chosen)
    record = decode([bytes(frame) for frame in encode(record_of(folded))])
    assert record.arrays["features.object_id"].tolist() == record.arrays["object_id"].tolist()
    assert record.arrays["features.amplitude"].tolist() == [2.0, 2.0]
    assert record.arrays["features.weighted_mean"].tolist() == [6.0, 6.0]
    folded = step(state, image(2), sources(image(2), 10.0, 50.0, 6.0), chosen)
    (request,) = [m for m in folded.messages if isinstance(m.header, Remeasure)]
    told = record_of(answer(state, brought_along(image(2), request, flux=12.0), chosen))
    assert told.arrays["features.amplitude"].tolist() == [4.0]
    assert "features.object_id" not in record_of(step(AssociatorState(), image(3), sources(image(3)), chosen)).arrays


def test_without_features_no_history_is_kept() -> None:
    state = AssociatorState()
    step(state, image(0), sources(image(0), 10.0, 50.0), AssociatorConfig())
    assert state.skies["default"].histories == {}


@pytest.mark.parametrize("name", ["Moments", "no.module:x", "trapline.associator.features:none"])
def test_an_unknown_feature_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ValidationError, match=r"there is no feature|cannot be imported"):
        AssociatorConfig(features=(name,))


def test_features_follow_no_ones_timing_and_outlive_a_restart() -> None:
    chosen = AssociatorConfig(expiration=4, backfill=3, open_pointings=2, features=ALL, history_points=8)
    found = []
    for chance in range(2):
        world = World(np.random.default_rng(chance), settings=chosen).run(night(5, 24))
        header, arrays = dump(world.state)
        sky = load(header, arrays).skies["default"]
        ids = array_to_ids(sky.catalogue.table.rows["object_id"])
        rows = np.argsort(np.array(ids))
        found.append({b: features_of(h, rows, ALL) for b, h in sky.histories.items()})
    for band, columns in found[0].items():
        for name, values in columns.items():
            assert found[1][band][name] == pytest.approx(values, rel=1e-12, nan_ok=True), name
            assert np.isfinite(values).any()
