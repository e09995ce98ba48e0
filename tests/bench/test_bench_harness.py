"""The statistics of the harness against distributions that are known, and one benchmark run as a user runs it."""

import json
import math
import subprocess

import numpy as np
import pytest

from bench.harness import Comparison, InvalidRunError, Target, in_pairs, ratio_of_medians
from bench.registry import BENCHMARKS
from bench.report import Machine, summary, write
from mesh_runs import ROOT, TRAPLINE, environment

AT_LEAST, AT_MOST = Target(">=", 0.8), Target("<=", 2.0)


def noisy(rng, median, pairs, drift=0.0):
    """Times with a long tail, whose true median is known, on a machine that slows down or speeds up."""
    return median * np.exp(rng.normal(0, 0.1, pairs) + drift)


def test_the_interval_holds_the_true_ratio_about_nine_times_in_ten():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(400):
        _, (low, high) = ratio_of_medians(noisy(rng, 3.0, 20), noisy(rng, 2.0, 20), seed=trial)
        hits += low <= 1.5 <= high
    # Binomial with p = 0.9 scatters by 0.015; bootstraps of medians are somewhat conservative.
    assert 0.86 <= hits / 400 <= 0.98


def test_the_interval_shrinks_as_the_root_of_the_number_of_pairs():
    rng = np.random.default_rng(2)

    def width(pairs):
        intervals = [ratio_of_medians(noisy(rng, 3, pairs), noisy(rng, 2, pairs))[1] for _ in range(40)]
        return np.mean([high - low for low, high in intervals])

    assert width(20) / width(320) == pytest.approx(4, rel=0.25)


def test_what_slows_both_of_a_pair_does_not_widen_the_interval():
    rng = np.random.default_rng(3)
    drift = rng.normal(0, 0.5, 50)  # shared: neighbours come and go
    ours, baseline = 3.0 * np.exp(drift), 2.0 * np.exp(drift)
    ratio, (low, high) = ratio_of_medians(ours, baseline)
    assert ratio == pytest.approx(1.5)
    assert high - low < 1e-9


def test_a_single_outlier_does_not_move_the_ratio():
    ours, baseline = np.full(11, 3.0), np.full(11, 2.0)
    ours[4] = 1e6
    ratio, (low, high) = ratio_of_medians(ours, baseline)
    assert ratio == low == high == 1.5


@pytest.mark.parametrize(
    ("target", "factor", "met"),
    [(AT_LEAST, 1.0, True), (AT_LEAST, 0.6, False), (AT_MOST, 1.5, True), (AT_MOST, 2.6, False)],
)
def test_a_target_is_met_or_missed(target, factor, met):
    rng = np.random.default_rng(4)
    baseline = noisy(rng, 2.0, 30)
    judged = Comparison("case", "ms", factor * noisy(rng, 2.0, 30), baseline, target).judged()
    assert judged.met is met
    assert judged.interval[0] <= judged.ratio <= judged.interval[1]


def test_an_interval_that_reaches_the_target_is_enough():
    assert AT_LEAST.reached_by((0.7, 0.81))
    assert not AT_LEAST.reached_by((0.7, 0.79))
    assert AT_MOST.reached_by((1.99, 2.5))
    assert not AT_MOST.reached_by((2.01, 2.5))


def test_an_allowance_is_taken_off_ours_before_the_ratio_and_not_off_what_is_reported():
    target = Target("<=", 2.0, allowance=20.0)
    judged = Comparison("case", "ms", [80.0] * 5, [30.0] * 5, target).judged()
    assert (judged.ours, judged.ratio, judged.met) == (80.0, 2.0, True)
    assert Comparison("case", "ms", [81.0] * 5, [30.0] * 5, target).judged().met is False


@pytest.mark.parametrize(
    ("ours", "baseline"), [([], []), ([1.0], []), ([math.nan], [1.0]), ([1.0], [0.0]), ([1.0], [math.inf])]
)
def test_values_that_are_no_pairs_are_refused(ours, baseline):
    with pytest.raises(InvalidRunError):
        ratio_of_medians(np.array(ours), np.array(baseline))


def test_pairs_alternate_and_warm_up_is_thrown_away():
    calls = []

    def measure(name):
        calls.append(name)
        return float(len(calls))

    ours, baseline = in_pairs(lambda: measure("ours"), lambda: measure("baseline"), 3, warm_up=1)
    pairs = [calls[i : i + 2] for i in range(0, len(calls), 2)]
    assert len(ours) == len(baseline) == 3
    assert len(pairs) == 4
    assert all(set(pair) == {"ours", "baseline"} for pair in pairs)
    assert pairs[0] != pairs[1] == pairs[3] != pairs[2]
    assert 1.0 not in ours + baseline


def test_the_summary_speaks_of_the_case_furthest_from_its_target(tmp_path):
    fine = Comparison("fine", "images/s", [9.0] * 3, [10.0] * 3, AT_LEAST)
    poor = Comparison("poor", "images/s", [5.0] * 3, [10.0] * 3, AT_LEAST, {"note": 1.0})
    open_ = Comparison("open", "images/s", [1.0] * 3, [10.0] * 3)
    result = summary("pipeline", "small", Machine.now(), [fine, poor, open_])
    assert (result["case"], result["ratio"], result["met"]) == ("poor", 0.5, False)
    assert [case["met"] for case in result["cases"]] == [True, False, None]
    assert json.loads(write(result, tmp_path / "results").read_text()) == json.loads(json.dumps(result))
    assert summary("pipeline", "small", Machine.now(), [fine, open_])["met"] is True
    assert summary("pipeline", "small", Machine.now(), [open_])["met"] is None


def trapline_bench(*arguments):
    return subprocess.run(
        [*TRAPLINE, "bench", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )


def test_one_benchmark_runs_from_the_command_line_and_ends_with_one_object():
    before = set((ROOT / "bench-results").glob("*"))
    done = trapline_bench("flat-associator", "--size", "small", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["name"] == "flat-associator"
    assert result["unit"] == "ms"
    low, high = result["interval"]
    assert 0 < low <= result["ratio"] <= high
    assert result["ratio"] == pytest.approx(result["ours"] / result["baseline"])
    assert result["target"] == "<= 1.05"
    assert result["met"] is (low <= 1.05)
    assert result["machine"]["cores"] >= 1
    assert "flat-associator" in done.stderr
    (written,) = set((ROOT / "bench-results").glob("*-flat-associator-small.json")) - before
    assert json.loads(written.read_text()) == result
    written.unlink()


def test_without_a_name_it_says_what_there_is_and_an_unknown_one_is_refused():
    listed = trapline_bench()
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(BENCHMARKS)
    refused = trapline_bench("pipelin")
    assert refused.returncode == 2
    assert "there is no 'pipelin'" in refused.stderr
    assert "pipeline" in refused.stderr


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_name_leads_to_a_function(name):
    assert callable(BENCHMARKS[name].load())
