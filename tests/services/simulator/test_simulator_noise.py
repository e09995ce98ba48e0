"""The noise is what an interferometer's would be: its level, its correlation, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import fft

from trapline.simulator.beam import pixel_beam
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.noise import correlated_noise, transfer_function

Float = npt.NDArray[np.float64]

RMS = 7.0
SHAPES = [(128, 128), (90, 151), (151, 90), (33, 64)]


def beam_config(ny: int, nx: int) -> SimulatorConfig:
    return SimulatorConfig(
        ny=ny, nx=nx, pixel_deg=0.1, beam_major_deg=0.6, beam_minor_deg=0.35, beam_pa_deg=35.0, edge_px=2
    )


def moments(config: SimulatorConfig) -> Float:
    """The beam's matrix of second moments in (x, y) pixels, by rotating it from its axes: east is towards -x."""
    sigma = np.array([config.beam_major_deg, config.beam_minor_deg]) / config.pixel_deg / 2.3548200450309493
    angle = math.radians(90.0 + config.beam_pa_deg)  # from +x, anticlockwise, to the major axis
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(turn @ np.diag(sigma**2) @ turn.T)


def periodic_gaussian(shape: tuple[int, int], covariance: Float) -> Float:
    """exp(-d^T C^-1 d / 2) of the distance to pixel (0, 0), the shorter way round."""
    ny, nx = shape
    y, x = np.meshgrid(fft.fftfreq(ny, 1 / ny), fft.fftfreq(nx, 1 / nx), indexing="ij")
    d = np.stack([x, y], axis=-1)
    return np.asarray(np.exp(-0.5 * np.einsum("...i,ij,...j", d, np.linalg.inv(covariance), d)))


def images(shape: tuple[int, int], count: int) -> Float:
    transfer = transfer_function(shape, pixel_beam(beam_config(*shape)), RMS)
    made = [correlated_noise(transfer, shape[1], seed=4, band=0, frame=k) for k in range(count)]
    assert all(image.dtype == np.float32 and image.shape == shape for image in made)
    return np.stack(made).astype(float)


@pytest.mark.parametrize("shape", SHAPES)
def test_white_noise_is_convolved_with_the_beam_and_scaled_to_the_rms(shape: tuple[int, int]) -> None:
    config = beam_config(*shape)
    transfer = transfer_function(shape, pixel_beam(config), RMS)
    impulse = np.zeros(shape)
    impulse[0, 0] = 1.0
    kernel = fft.irfft2(fft.rfft2(impulse) * transfer, s=shape)
    # The variance of filtered white noise is the sum of the squares of the filter.
    assert np.sum(kernel**2) == pytest.approx(RMS**2, rel=1e-6)
    assert kernel / kernel[0, 0] == pytest.approx(periodic_gaussian(shape, moments(config)), abs=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_and_autocorrelation_within_sampling_error(shape: tuple[int, int]) -> None:
    count = 60
    noise = images(shape, count)
    expected = periodic_gaussian(shape, 2 * moments(beam_config(*shape)))  # the beam convolved with itself
    # Bartlett: the variance of an estimated covariance is at most 2 sum(rho^2) / N of its value at zero.
    error = math.sqrt(2 * np.sum(expected**2) / (count * noise[0].size))
    assert np.mean(noise**2) / RMS**2 == pytest.approx(1.0, abs=4 * error)
    power = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
    autocorrelation = np.fft.ifft2(power).real / noise[0].size / RMS**2
    assert np.max(np.abs(autocorrelation - expected)) < 5.5 * error
    assert abs(np.mean(noise)) < 4 * RMS * math.sqrt(np.sum(expected) / noise.size)


def test_noise_is_the_same_at_the_edges() -> None:
    noise = images((64, 96), 400)
    edge = np.concatenate([noise[:, :2].ravel(), noise[:, :, -2:].ravel()])
    assert np.std(edge) == pytest.approx(RMS, rel=0.02)


def test_noise_is_gaussian() -> None:
    noise = images((128, 128), 30) / RMS
    for sigma in (1.0, 2.0, 3.0):
        assert np.mean(np.abs(noise) > sigma) == pytest.approx(math.erfc(sigma / math.sqrt(2)), rel=0.1)


@pytest.mark.parametrize("other", [{"seed": 2}, {"band": 1}, {"frame": 1}, {"seed": 0, "band": 0, "frame": 2}])
def test_other_keys_give_unrelated_noise(other: dict[str, int]) -> None:
    transfer = transfer_function((128, 128), pixel_beam(beam_config(128, 128)), 1.0)
    keys = {"seed": 1, "band": 0, "frame": 0}
    first = correlated_noise(transfer, 128, **keys)
    assert np.array_equal(first, correlated_noise(transfer, 128, **keys))
    second = correlated_noise(transfer, 128, **(keys | other))
    correlated = periodic_gaussian((128, 128), 2 * moments(beam_config(128, 128)))
    assert abs(np.mean(first * second)) < 5 * math.sqrt(np.sum(correlated**2) / first.size)
