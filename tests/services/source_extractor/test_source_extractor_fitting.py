from __future__ import annotations

import numpy as np
import pytest

from extractor_skies import PIXEL_DEG, add_sources, beam_moments_px, make_image, smooth_noise
from trapline.common.wcs import parse_wcs
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.beam import PixelBeam, pixel_beam, reference_axes
from trapline.source_extractor.fitting import Fits, Seeds, fit_sources
from trapline.source_extractor.noise import Flattened, Pixels

BEAM = Beam(7.0 * PIXEL_DEG, 4.0 * PIXEL_DEG, 60.0)
IMAGE = make_image((1200, 1000), BEAM, CROTA2=15.0)


def on_grid(image: Image) -> PixelBeam:
    assert image.beam is not None
    assert image.wcs is not None
    assert image.shape is not None
    return pixel_beam(image.beam, reference_axes(parse_wcs(image.wcs), image.shape))


def fit(
    pixels: Pixels, x: np.ndarray, y: np.ndarray, unusable: np.ndarray | None = None, *, free: bool = False
) -> Fits:
    peak = np.stack([x.round(), y.round()], axis=-1).astype(np.int64)
    noise = Flattened(pixels, np.ones_like(pixels), unusable)
    ones = np.ones(len(x))
    return fit_sources(noise, Seeds(peak, peak.astype(float), ones, ones, ones), on_grid(IMAGE), free=free)


def test_the_beam_on_the_grid_is_where_astropy_puts_its_half_power_points() -> None:
    beam = on_grid(IMAGE)
    assert beam.covariance_px == pytest.approx(beam_moments_px(IMAGE), rel=1e-4)
    assert beam.area_px == pytest.approx(np.pi * 7 * 4 / (4 * np.log(2)), rel=1e-6)


def test_the_beam_keeps_its_size_in_pixels_in_a_cut_out_near_the_horizon() -> None:
    # 3600 px of 50 arcsec from the reference: 50 degrees, where a pixel of SIN spans half as much again on the sky.
    cards = {"CDELT1": -50 / 3600, "CDELT2": 50 / 3600, "CRVAL2": 90.0}
    whole = on_grid(make_image((200, 300), Beam(0.2, 0.1, 0.0), **cards))
    aside = on_grid(make_image((200, 300), Beam(0.2, 0.1, 0.0), **cards, CRPIX1=150.5, CRPIX2=100.5 + 3160))
    assert aside.area_px == pytest.approx(whole.area_px, rel=1e-9)


@pytest.mark.parametrize("free", [False, True], ids=["axes of the beam", "axes of their own"])
def test_errors_are_those_that_repeated_noise_shows(free: bool) -> None:
    moments = beam_moments_px(IMAGE)
    steps = np.meshgrid(np.arange(25.0, 970, 30), np.arange(25.0, 1170, 30))
    rng = np.random.default_rng(8)
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, axis.size) for axis in steps)
    pixels = smooth_noise(rng, (1200, 1000), moments)
    add_sources(pixels, x, y, np.full(x.size, 60.0), moments)
    result = fit(pixels.astype(np.float32), x, y, free=free)
    assert result.converged.all()
    deviation = result.position_px - np.stack([x, y], axis=-1)
    scatter = deviation.T @ deviation / x.size
    assert result.covariance_px.mean(axis=0) == pytest.approx(scatter, rel=0.12)
    assert result.flux_peak_err.mean() == pytest.approx(result.flux_peak.std(), rel=0.06)
    assert result.flux_int_err.mean() == pytest.approx(result.flux_int.std(), rel=0.06)
    assert result.growth_err.mean() == pytest.approx(result.growth.std(), rel=0.06)
    assert result.chi2_reduced.mean() == pytest.approx(1.0, abs=0.08)


def test_free_axes_have_the_errors_of_condon() -> None:
    moments = beam_moments_px(IMAGE)
    steps = np.meshgrid(np.arange(25.0, 970, 30), np.arange(25.0, 1170, 30))
    x, y = (axis.ravel() + np.linspace(-0.5, 0.5, axis.size) for axis in steps)
    pixels = np.zeros((1200, 1000))
    add_sources(pixels, x, y, np.full(x.size, 40.0), moments)
    result = fit(pixels.astype(np.float32), x, y, free=True)
    # Condon 1997, eq. 41 and 21 for a point source in noise as smooth as the beam, where rho is the signal to noise
    # times sqrt(2): the error of the peak is the noise, that of the place sigma over the signal to noise.
    condon_int = np.sqrt(3.0)
    assert result.flux_peak_err == pytest.approx(np.ones(x.size), rel=0.06)
    assert result.flux_int_err == pytest.approx(np.full(x.size, condon_int), rel=0.12)
    assert result.covariance_px == pytest.approx(np.broadcast_to(moments / 40**2, (x.size, 2, 2)), rel=0.25, abs=3e-4)


@pytest.mark.parametrize("free", [False, True], ids=["axes of the beam", "axes of their own"])
def test_a_beam_without_noise_is_recovered_exactly_over_any_pixel(free: bool) -> None:
    moments = beam_moments_px(IMAGE)
    offset = np.linspace(-0.5, 0.5, 9)
    x, y = 40.0 + 50 * np.arange(9) + offset, np.full(9, 300.0) - offset[::-1]
    pixels = np.zeros((1200, 1000))
    add_sources(pixels, x, y, np.arange(1.0, 10.0), moments)
    result = fit(pixels.astype(np.float32), x, y, free=free)
    assert result.converged.all()
    assert result.flux_peak == pytest.approx(np.arange(1.0, 10.0), rel=2e-6)
    assert result.flux_int == pytest.approx(np.arange(1.0, 10.0), rel=5e-6)
    assert result.position_px[:, 0] == pytest.approx(x, abs=2e-5)
    assert result.position_px[:, 1] == pytest.approx(y, abs=2e-5)
    assert result.shape_px == pytest.approx(np.broadcast_to(moments, (9, 2, 2)), rel=2e-5, abs=1e-5)
    assert result.growth == pytest.approx(np.zeros(9), abs=1e-5)
    assert result.chi2_reduced == pytest.approx(np.zeros(9), abs=1e-6)


@pytest.mark.parametrize("free", [False, True], ids=["axes of the beam", "axes of their own"])
def test_a_hopeless_window_fails_alone(free: bool) -> None:
    moments = beam_moments_px(IMAGE)
    x, y = np.array([100.0, 200.0, 300.0, 400.0]), np.full(4, 300.0)
    pixels = np.zeros((1200, 1000))
    add_sources(pixels, x, y, np.full(4, 50.0), moments)
    pixels[280:320, 180:220] = 0
    pixels[280:320, 280:320] = -5
    unusable = np.zeros(pixels.shape, bool)
    unusable[280:320, 380:420] = True
    result = fit(pixels.astype(np.float32), x, y, unusable, free=free)
    assert list(result.converged) == [True, False, False, False]
    assert list(result.masked) == [False, False, False, True]
    assert result.flux_peak[0] == pytest.approx(50.0, rel=1e-5)
