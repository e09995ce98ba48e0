from __future__ import annotations

import numpy as np
import pytest
from photutils.aperture import CircularAperture, aperture_photometry
from scipy.spatial import cKDTree

from extractor_skies import PIXEL_DEG, add_sources, columns_of, make_image, nearest
from trapline.schemas.columns import Flag
from trapline.schemas.image import Band, Beam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.optical import measure_optical
from trapline.source_extractor.scene import prepare
from trapline.source_extractor.watched import fluxes_at

SEEING_PX = 3.0
MOMENTS = np.eye(2) * (SEEING_PX / 2.3548) ** 2
IMAGE = make_image((520, 640), unit="count", band=Band("r", filter="r"))
RNG = np.random.default_rng(4)
STEPS = np.meshgrid(np.arange(30.0, 620, 40), np.arange(30.0, 500, 40))
X, Y = (axis.ravel() + RNG.uniform(-4, 4, axis.size) for axis in STEPS)
PEAK = np.exp(RNG.uniform(np.log(30), np.log(300), X.size))
PIXELS = RNG.normal(scale=2.0, size=(520, 640))
add_sources(PIXELS, X, Y, 2.0 * PEAK, MOMENTS)


def test_aperture_fluxes_are_those_of_an_independent_program() -> None:
    columns = columns_of(measure(PIXELS.astype(np.float32), IMAGE, ExtractorConfig(aperture_radius_px=6.0)))
    distance, row = nearest(columns, X, Y)
    assert distance.max() < 0.5
    aperture = CircularAperture(np.stack([columns["x"], columns["y"]], axis=-1), r=6.0)
    table = aperture_photometry(PIXELS, aperture, error=np.full_like(PIXELS, 2.0))
    # sep divides pixels on the rim into 5 x 5, and takes a background that is off by a few hundredths of the noise.
    assert columns["flux_int"] == pytest.approx(np.array(table["aperture_sum"]), abs=0.1 * aperture.area)
    assert columns["flux_int_err"] == pytest.approx(np.array(table["aperture_sum_err"]), rel=0.05)
    total = 2.0 * PEAK * 2 * np.pi * MOMENTS[0, 0]
    pull = (columns["flux_int"][row] - total) / columns["flux_int_err"][row]
    assert pull.mean() == pytest.approx(0.0, abs=0.3)
    assert pull.std() == pytest.approx(1.0, abs=0.2)


def test_a_seeing_width_does_not_make_an_optical_image_a_radio_one() -> None:
    seeing = Beam(SEEING_PX * PIXEL_DEG, SEEING_PX * PIXEL_DEG, 0.0)
    image = make_image((520, 640), seeing, unit="count", band=Band("r", filter="r"))
    with_seeing, without = (
        columns_of(measure(PIXELS.astype(np.float32), i, ExtractorConfig())) for i in (image, IMAGE)
    )
    assert (with_seeing["flux_int"] == without["flux_int"]).all()
    assert with_seeing["flux_int"].min() > 2 * with_seeing["flux_peak"].min()


def test_shapes_and_positions_are_those_of_the_point_spread() -> None:
    columns = columns_of(measure(PIXELS.astype(np.float32), IMAGE, ExtractorConfig()))
    bright = columns["snr"] > 100
    assert np.median(columns["major_deg"][bright]) / PIXEL_DEG == pytest.approx(SEEING_PX, rel=0.15)
    _, row = nearest(columns, X, Y)
    offset = (columns["x"][row] - X)[PEAK > 100]
    assert offset.std() < 0.05
    assert np.isnan(columns["chi2_reduced"]).all()
    assert columns["pos_err_ew_deg"].min() >= 0.1 / 3600, "0.1 arcsec is the systematic error without a beam"


def test_an_aperture_over_the_edge_or_a_mask_is_flagged() -> None:
    pixels = PIXELS.copy()
    add_sources(pixels, np.array([3.0]), np.array([250.0]), np.array([500.0]), MOMENTS)
    pixels[int(Y[100]) + 3, int(X[100])] = np.nan
    columns = columns_of(measure(pixels.astype(np.float32), IMAGE, ExtractorConfig()))
    _, row = nearest(columns, [3.0, X[100], X[50]], [250.0, Y[100], Y[50]])
    assert list(columns["flags"][row]) == [Flag.NEAR_EDGE, Flag.MASKED, 0]


def test_kron_apertures_hold_nearly_all_of_the_light() -> None:
    columns = columns_of(measure(PIXELS.astype(np.float32), IMAGE, ExtractorConfig(optical_flux="kron")))
    _, row = nearest(columns, X, Y)
    total = 2.0 * PEAK * 2 * np.pi * MOMENTS[0, 0]
    bright = PEAK > 100
    # Bertin & Arnouts 1996: 94 % of a galaxy's light, and more of a Gaussian's.
    assert np.median(columns["flux_int"][row][bright] / total[bright]) == pytest.approx(0.97, abs=0.04)
    circle = columns_of(measure(PIXELS.astype(np.float32), IMAGE, ExtractorConfig()))
    assert not np.array_equal(circle["flux_int"], columns["flux_int"])


def test_windowed_positions_are_nearly_as_exact_as_a_fit() -> None:
    columns = columns_of(measure(PIXELS.astype(np.float32), IMAGE, ExtractorConfig()))
    _, row = nearest(columns, X, Y)
    # Of the point-spread function to independent pixels: sqrt(2 / pi) / SNR px at best, whatever its width.
    for offset in (columns["x"][row] - X, columns["y"][row] - Y):
        scatter = np.std(offset * PEAK)
        assert np.sqrt(2 / np.pi) < 1.1 * scatter
        assert scatter < 1.5 * np.sqrt(2 / np.pi)


def test_the_windows_of_two_stars_side_by_side_do_not_move_to_one_place() -> None:
    pixels, apart = RNG.normal(scale=2.0, size=(520, 640)), np.tile([4.2, 4.6, 5.0, 6.0], 60)
    steps = np.meshgrid(np.arange(20.0, 620, 40), np.arange(20.0, 500, 30))
    x, y = (axis.ravel()[:240] for axis in steps)
    for places in (x, x + apart):
        add_sources(pixels, places, y, np.full(240, 100.0), MOMENTS)
    columns = columns_of(measure(pixels.astype(np.float32), IMAGE, ExtractorConfig(detection_threshold=6)))
    places = np.stack([columns["x"], columns["y"]], axis=-1)
    distance, _ = cKDTree(places).query(places, k=[2])
    assert len(places) > 400, "most pairs are taken apart"
    assert distance.min() > 2.0


def test_a_gain_adds_the_photons_of_the_source_to_its_error() -> None:
    pixels = PIXELS.astype(np.float32)
    plain = columns_of(measure(pixels, IMAGE, ExtractorConfig()))
    photons = columns_of(measure(pixels, IMAGE, ExtractorConfig(gain_per_unit=4.0)))
    assert np.array_equal(plain["flux_int"], photons["flux_int"])
    expected = np.hypot(plain["flux_int_err"], np.sqrt(plain["flux_int"] / 4.0))
    assert photons["flux_int_err"] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("gain", [None, 4.0])
def test_a_forced_flux_is_the_blind_one_of_the_same_place_with_its_error(gain: float | None) -> None:
    settings = ExtractorConfig(gain_per_unit=gain)
    scene = prepare(PIXELS.astype(np.float32), IMAGE, settings)
    blind = measure_optical(scene.noise, settings)
    forced = fluxes_at(scene, blind.position_px, blind.position_px, settings)
    assert np.array_equal(forced.amplitude, blind.flux_int)
    assert np.array_equal(forced.amplitude_err, blind.flux_int_err)
