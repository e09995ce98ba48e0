"""Which sources shine when, how bright, and how far from one another."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
import sep

from trapline.common.sky import separation_deg
from trapline.simulator.config import SimulatedBand, SimulatorConfig
from trapline.simulator.core import render, truth_of
from trapline.simulator.sky import Catalogue, NoRoomError, fixed_sources
from trapline.simulator.transients import transients_on, transients_until

DEFAULT = SimulatorConfig()


def least_separation_deg(sources: Catalogue) -> float:
    ra, dec = sources["ra_deg"], sources["dec_deg"]
    apart = separation_deg(ra[:, None], dec[:, None], ra[None, :], dec[None, :])
    return float(np.min(apart + np.diag(np.full(len(sources), np.inf))))


@pytest.mark.parametrize("seed", range(8))
def test_sources_are_apart_and_in_the_field(seed: int) -> None:
    config = DEFAULT.model_copy(update={"seed": seed})
    sources = fixed_sources(config)
    assert (sources["kind"] == "steady").sum() == 60
    assert (sources["kind"] == "variable").sum() == 6
    assert least_separation_deg(sources) >= 8 * 0.5
    assert np.max(separation_deg(sources["ra_deg"], sources["dec_deg"], 350.0, 52.9)) <= 60.0
    assert len(np.unique(sources["name"])) == 66
    shining = truth_of(config, 0, 0).sources
    assert len(shining) == 66
    assert np.all((shining["x"] >= 20) & (shining["x"] <= 1003) & (shining["y"] >= 20) & (shining["y"] <= 1003))


def test_the_field_is_covered_evenly() -> None:
    config = DEFAULT.model_copy(update={"crowded": True, "n_steady": 20_000, "n_variable": 0, "dec_deg": 90.0})
    sources = fixed_sources(config)
    assert least_separation_deg(sources[:2000]) < 1.0
    # Equal areas of a cap are equal in the sine of the declination, and in right ascension at the pole.
    heights = (np.sin(np.radians(sources["dec_deg"])) - 0.5) / 0.5
    for values in (heights, sources["ra_deg"] / 360.0):
        counts, _ = np.histogram(values, bins=20, range=(0.0, 1.0))
        assert counts.sum() == 20_000
        assert np.sum((counts - 1000.0) ** 2 / 1000.0) < 50.0  # chi^2 with 19 degrees of freedom, p = 1e-4


def test_a_full_field_is_refused_with_the_way_out() -> None:
    config = DEFAULT.model_copy(update={"n_steady": 700})
    with pytest.raises(NoRoomError, match=r"there is room for \d+ of 706 sources, 8.0 beams apart: lower n_steady"):
        render(config, 0, 0)
    with pytest.raises(NoRoomError, match="are more than the 1000000 supported"):
        fixed_sources(config.model_copy(update={"drift": True, "field_radius_deg": 1.0, "n_steady": 10**6}))


@pytest.mark.parametrize(("band", "frame", "said"), [(2, 0, "bands 0 to 1"), (-1, 0, "bands"), (0, -1, "from 0")])
def test_what_does_not_exist_is_refused(band: int, frame: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render(DEFAULT, band, frame)


def test_spectra_are_power_laws_and_steady_sources_are_steady() -> None:
    bands = tuple(SimulatedBand(freq_hz=f) for f in (60e6, 120e6, 240e6))
    config = DEFAULT.model_copy(update={"bands": bands, "transient_interval_s": None})
    fluxes = np.array([[truth_of(config, b, k).sources["flux_jy"] for k in (0, 7, 500)] for b in range(3)])
    steady = truth_of(config, 0, 0).sources["kind"] == "steady"
    assert np.all(fluxes[:, :, steady] == fluxes[:, :1, steady])
    first, second = (np.log2(fluxes[i + 1, 0] / fluxes[i, 0]) for i in (0, 1))
    assert first == pytest.approx(second)
    assert np.mean(first) == pytest.approx(-0.8, abs=4 * 0.2 / math.sqrt(len(first)))
    snr = fluxes[0, 0, steady] / config.rms_jy_per_beam
    assert np.all((snr >= 20) & (snr <= 400))
    # Half of a truncated N(>S) ~ S^-1.5 lies below this median.
    median = ((20**-1.5 + 400**-1.5) / 2) ** (-1 / 1.5)
    assert abs(np.sum(snr < median) - 30) <= 4 * math.sqrt(60 / 4)


def test_variable_sources_repeat_after_their_period() -> None:
    config = DEFAULT.model_copy(update={"variable_period_min_s": 24.0, "variable_period_max_s": 24.0})
    frames = np.array([truth_of(config, 0, k).sources["flux_jy"][60:66] for k in range(48)])
    assert frames[:24] == pytest.approx(frames[24:])
    assert np.mean(frames, axis=0) == pytest.approx(fixed_sources(config)["flux_jy"][60:], rel=1e-9)
    assert np.std(frames, axis=0) / np.mean(frames, axis=0) == pytest.approx(np.full(6, 0.3 / math.sqrt(2)), rel=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_the_first_transient_comes_within_the_minute(seed: int) -> None:
    config = DEFAULT.model_copy(update={"seed": seed})
    assert not any(len(transients_on(config, frame)) for frame in range(12))
    assert any(len(transients_on(config, frame)) for frame in range(12, 21))


def test_transients_come_at_the_rate_and_with_the_properties_asked_for() -> None:
    frames = 20_000
    sources = transients_until(DEFAULT, frames)
    assert len(sources) == pytest.approx(1000, abs=4 * math.sqrt(1000))
    lasting = sources["end_frame"] - sources["first_frame"]
    assert (lasting.min(), lasting.max()) == (10, 30)
    assert np.mean(lasting) == pytest.approx(20, abs=4 * 20 / math.sqrt(12 * len(sources)))
    for freq_hz in (band.freq_hz for band in DEFAULT.bands):
        flux = sources["flux_jy"] * (freq_hz / DEFAULT.bands[0].freq_hz) ** sources["spectral_index"]
        assert np.all(flux >= 12 * DEFAULT.rms_jy_per_beam)
    counts, _ = np.histogram(sources["first_frame"], bins=20, range=(0, frames))
    assert np.sum((counts - 50.0) ** 2 / 50.0) < 50.0
    assert len(np.unique(sources["name"])) == len(sources)
    assert np.array_equal(transients_until(DEFAULT, 700), sources[sources["first_frame"] < 700])


def test_what_shines_together_is_apart_also_across_blocks() -> None:
    config = DEFAULT.model_copy(update={"transient_interval_s": 2.0, "transient_min_s": 60.0, "transient_max_s": 60.0})
    for frame in range(90, 2400, 30):
        together = np.concatenate([fixed_sources(config), transients_on(config, frame)])
        assert len(together) > 66 + 10
        assert least_separation_deg(together) >= 8 * 0.5


def test_a_transient_is_in_the_pixels_while_it_is_on(small: SimulatorConfig) -> None:
    config = small.model_copy(update={"transient_first": (3, 3), "transient_interval_s": 1000.0, "seed": 5})
    quiet = config.model_copy(update={"transient_interval_s": None})
    (transient,) = transients_until(config, 40)
    first, end = int(transient["first_frame"]), int(transient["end_frame"])
    assert first == 3
    for band in (0, 1):
        for frame in (0, first - 1, first, end - 1, end, end + 5):
            image, without = render(config, band, frame), render(quiet, band, frame)
            extra = image.pixels.astype(float) - without.pixels
            names = image.truth.sources["name"][image.truth.sources["kind"] == "transient"]
            assert (names.tolist() == ["T0.0"]) == (first <= frame < end)
            if not len(names):
                assert not extra.any()
                continue
            source = image.truth.sources[-1]
            row, column = np.unravel_index(np.argmax(extra), extra.shape)
            assert abs(row - source["y"]) <= 0.51
            assert abs(column - source["x"]) <= 0.51
            assert 0.8 * source["flux_jy"] < extra.max() <= 1.001 * source["flux_jy"]


def test_an_image_does_not_depend_on_what_was_made_before() -> None:
    config = SimulatorConfig(nx=200, ny=160, n_steady=8, separation_beams=2, frames=3)
    for frame in range(5):
        render(config, 0, frame)
    here = [hashlib.sha256(render(config, band, 1900).pixels.tobytes()).hexdigest() for band in (0, 1)]
    program = f"""
import hashlib
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
config = SimulatorConfig.model_validate_json({config.model_dump_json()!r})
for band in (1, 0):
    print(hashlib.sha256(render(config, band, 1900).pixels.tobytes()).hexdigest())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == here[::-1]
    assert here[0] != here[1]


def test_an_independent_extraction_finds_the_truth_and_nothing_else() -> None:
    _, pixels, truth = render(DEFAULT, 1, 30)
    mask = np.isnan(pixels)
    image = np.where(mask, np.float32(0), pixels)
    background = sep.Background(image, mask=mask, bw=50, bh=50)
    found = sep.extract(
        image - background.back(), 8.0, err=background.rms(), mask=mask, minarea=1, filter_kernel=None, deblend_cont=1.0
    )
    assert background.globalrms == pytest.approx(DEFAULT.rms_jy_per_beam, rel=0.05)
    assert len(found) == len(truth.sources)
    apart = np.hypot(truth.sources["x"][:, None] - found["x"], truth.sources["y"][:, None] - found["y"])
    assert np.max(np.min(apart, axis=1)) < 0.5
    assert (truth.sources["kind"] == "transient").sum() >= 1
