"""The bench of injections: its expectation against simulated noise, and a small run of the whole chain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.bench_injection import expected_peaks, injection
from trapline.simulator.beam import pixel_beam
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.noise import correlated_noise, transfer_function


@pytest.mark.parametrize("sigma", [3.5, 4.0])
def test_peaks_of_gaussian_noise_are_as_many_as_theory_says(sigma):
    config = SimulatorConfig(nx=512, ny=512, pixel_deg=0.01, beam_major_deg=0.1, beam_minor_deg=0.08, horizon_deg=None)
    transfer = transfer_function((512, 512), pixel_beam(config), 1.0)
    found = 0
    for frame in range(40):
        noise = correlated_noise(transfer, 512, seed=5, band=0, frame=frame)
        peak = ndimage.maximum_filter(noise, 3, mode="wrap") == noise
        found += int((peak & (noise > sigma)).sum())
    expected = expected_peaks(40 * 512**2, 0.1 * 0.08 / 0.01**2, sigma)
    # The formula counts excursions; maxima within one are a few per cent more at these levels.
    assert found == pytest.approx(expected, rel=0.15, abs=3 * np.sqrt(expected))


@pytest.mark.timeout(300)
def test_a_small_run_recovers_what_is_strong_and_hears_nothing_in_noise():
    simulated, _, real, noise = injection("small")
    assert simulated.ours == [1.0] * len(simulated.ours)
    assert np.mean(real.ours) > 0.9
    assert noise.ours == [1.0]
    assert simulated.notes["false alarms"] == "none"
