"""The mean that flares are judged by (decision 12), beside the plain weighted mean: what each makes of a star."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from finder_records import record, run, said
from trapline.transient_finder import rules
from trapline.transient_finder.config import FinderConfig

Float = npt.NDArray[np.float64]
SETTINGS = FinderConfig()
THRESHOLDS = {
    "sigma": SETTINGS.flare_sigma,
    "flux_sys_frac": SETTINGS.flux_sys_frac,
    "min_points": 10.0,
    "hysteresis": 1.0,
}
ERROR = 0.1


def star(flares: dict[int, float], n: int = 120) -> Float:
    """Return the fluxes of a star of 5 with noise of 0.1, which are other ones for two points at a time."""
    flux = np.random.default_rng(5).normal(5.0, ERROR, n)
    for first, value in flares.items():
        flux[first : first + 2] += value - 5.0
    return flux


def of_the_plain_mean(flux: Float) -> tuple[list[int], list[int]]:
    """Return where flares and fades are, judged by the plain weighted mean of all points before."""
    held: dict[str, list[int]] = {"flare": [], "fade": []}
    for number in range(1, len(flux)):
        point = {
            "flux_int": flux[number], "flux_int_err": ERROR, "mean": flux[:number].mean(),
            "mean_err": ERROR / np.sqrt(number), "n_before": number,
        }  # fmt: skip
        columns = {name: np.array([value]) for name, value in point.items()}
        for kind, rule in (("flare", rules.flare), ("fade", rules.fade)):
            held[kind] += [number] if rule(columns, THRESHOLDS).holds[0] else []
    return held["flare"], held["fade"]


def openings(flux: Float, settings: FinderConfig = SETTINGS) -> list[tuple[int, str]]:
    """Return which events the finder opens, and where."""
    judged = run([record(n, 0, f) for n, f in enumerate(flux)], settings)
    return [(number, kind) for number, kind, what in said(judged) if what == "initial" and kind != "variable"]


def of_ours(flux: Float) -> tuple[list[int], list[int]]:
    """Return where the finder opens flares and fades."""
    opened = openings(flux)
    return [n for n, kind in opened if kind == "flare"], [n for n, kind in opened if kind == "fade"]


def test_a_steady_star_is_the_same_to_both() -> None:
    assert of_ours(star({})) == of_the_plain_mean(star({})) == ([], [])


def test_after_a_bright_flare_the_plain_mean_calls_the_quiet_star_faded() -> None:
    flux = star({40: 200.0})
    flares, fades = of_the_plain_mean(flux)
    assert flares == [40, 41]
    assert fades[0] == 42 and len(fades) > 50, "until the flare is averaged out"
    assert of_ours(flux) == ([40], [])


@pytest.mark.parametrize("second", [8.0, 12.0])
def test_after_a_bright_flare_the_plain_mean_misses_the_next(second: float) -> None:
    flux = star({40: 200.0, 60: second})
    assert not {60, 61} & set(of_the_plain_mean(flux)[0])
    assert of_ours(flux) == ([40, 60], [])


def test_a_flux_that_stays_near_the_threshold_is_one_flare() -> None:
    rng = np.random.default_rng(2)
    flux = star({})
    threshold = 5 + 6.5 * np.sqrt(ERROR**2 + (SETTINGS.flux_sys_frac * 5) ** 2)
    flux[40:48] = threshold + 0.1 + rng.normal(0, ERROR, 8)
    assert flux[40] > threshold
    assert of_ours(flux) == ([40], [])
    assert len(of_ours(flux)[0]) < len(openings(flux, SETTINGS.model_copy(update={"flare_hysteresis": 1.0})))


def test_a_lasting_change_becomes_the_mean_of_both() -> None:
    flux = star({})
    flux[30:] += 4.0
    flares, fades = of_the_plain_mean(flux)
    assert flares[0] == 30 and not fades
    assert of_ours(flux) == ([30], [])
    judged = run([record(n, 0, f) for n, f in enumerate(flux)])
    (end,) = [number for number, _, what in said(judged) if what == "ended"]
    assert 31 < end < 100, "the flare is over when the mean has come up"
