"""Where sources fall on the pixels and with which shape, against astropy's WCS and sums over pixels."""

from __future__ import annotations

import math
import warnings
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.time import Time
from astropy.wcs import WCS, FITSFixedWarning

from trapline.simulator.beam import add_point_sources, pixel_beam
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render, truth_of
from trapline.simulator.telescope import beyond_horizon, header_of, pointing_of, to_pixel

ZENITHS = [(350.0, 52.9), (0.0, 0.0), (0.001, -30.0), (359.999, 89.0), (120.0, 90.0), (77.0, -90.0)]


def wcs_of(header: Header) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # astropy tells that it also knows DATE-OBS as a number
        return WCS(header)


def earth_rotation_deg(day: float) -> float:
    # Built in UT1: adding to a time would go through TAI, for which astropy wants a table from the network.
    angle: Any = Time(2460676.5, day, format="jd", scale="ut1").earth_rotation_angle(0)
    return float(angle.deg)


def without_sources(config: SimulatorConfig) -> SimulatorConfig:
    return config.model_copy(update={"n_steady": 0, "n_variable": 0, "transient_interval_s": None})


def wide(ra_deg: float = 350.0, dec_deg: float = 52.9) -> SimulatorConfig:
    return SimulatorConfig(
        nx=300, ny=200, ra_deg=ra_deg, dec_deg=dec_deg, n_steady=20, n_variable=4, separation_beams=4
    )


@pytest.mark.parametrize(("ra_deg", "dec_deg"), ZENITHS)
def test_positions_agree_with_astropy_on_a_non_square_image(ra_deg: float, dec_deg: float) -> None:
    config = wide(ra_deg, dec_deg)
    header, pixels, truth = render(config, 1, 30)
    wcs = wcs_of(header)
    assert wcs.pixel_shape == (300, 200)
    assert pixels.shape == (200, 300)
    x, y = wcs.wcs_world2pix(truth.sources["ra_deg"], truth.sources["dec_deg"], 0)
    assert truth.sources["x"] == pytest.approx(x, abs=1e-6)
    assert truth.sources["y"] == pytest.approx(y, abs=1e-6)
    assert len(x) >= 24


@pytest.mark.parametrize(("ra_deg", "dec_deg"), ZENITHS)
def test_flux_is_recovered_at_the_peak_and_in_sum(ra_deg: float, dec_deg: float) -> None:
    config = wide(ra_deg, dec_deg).model_copy(update={"separation_beams": 8.0, "n_steady": 8, "n_variable": 2})
    header, pixels, truth = render(config, 0, 5)
    model = pixels.astype(float) - render(without_sources(config), 0, 5).pixels
    xs, ys = wcs_of(header).wcs_world2pix(truth.sources["ra_deg"], truth.sources["dec_deg"], 0)
    sigma_px = np.array([config.beam_major_deg, config.beam_minor_deg]) / config.pixel_deg / math.sqrt(8 * math.log(2))
    area_px = 2 * math.pi * np.prod(sigma_px)
    for x, y, flux in zip(xs, ys, truth.sources["flux_jy"], strict=True):
        column, row = round(x), round(y)
        stamp = model[max(row - 12, 0) : row + 13, max(column - 12, 0) : column + 13]
        assert np.sum(stamp) / area_px == pytest.approx(flux, rel=2e-3)
        pa = math.radians(config.beam_pa_deg)
        east, north = x - column, row - y
        along, across = east * math.sin(pa) + north * math.cos(pa), east * math.cos(pa) - north * math.sin(pa)
        expected = flux * math.exp(-0.5 * ((along / sigma_px[0]) ** 2 + (across / sigma_px[1]) ** 2))
        assert model[row, column] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pa_deg", [0.0, 30.0, 90.0, -60.0, 180.0])
def test_the_beam_has_its_position_angle_on_the_sky(pa_deg: float) -> None:
    config = wide(10.0, 40.0).model_copy(update={"beam_pa_deg": pa_deg, "beam_major_deg": 0.9, "beam_minor_deg": 0.5})
    image = np.zeros((200, 300), dtype=np.float32)
    centre = np.array([149.3]), np.array([99.6])
    add_point_sources(image, *centre, np.array([1.0]), pixel_beam(config))
    rows, columns = np.nonzero(image > 1e-4)
    wcs, weight = wcs_of(header_of(config, 0, 0)), image[rows, columns]
    middle, around = (SkyCoord(wcs.pixel_to_world(x, y)) for x, y in ((149.3, 99.6), (columns, rows)))
    east, north = (offset.to_value("deg") for offset in middle.spherical_offsets_to(around))
    ee, nn, en = (np.average(a * b, weights=weight) for a, b in ((east, east), (north, north), (east, north)))
    measured_deg = math.degrees(0.5 * math.atan2(2 * en, nn - ee))
    assert (measured_deg - pa_deg + 90.0) % 180.0 - 90.0 == pytest.approx(0.0, abs=0.2)
    width_deg = math.sqrt((ee + nn) * 8 * math.log(2))
    assert width_deg == pytest.approx(math.hypot(0.9, 0.5), rel=3e-3)


def test_sources_over_the_edge_and_beside_one_another_add_up() -> None:
    config = wide()
    beam, image = pixel_beam(config), np.zeros((200, 300), dtype=np.float32)
    x = np.array([-0.4, 299.4, 150.0, 151.0, -500.0, np.nan, 7.0])
    y = np.array([0.3, 199.2, 100.0, 100.0, 20.0, 3.0, 1e9])
    add_point_sources(image, x, y, np.full(7, 2.0), beam)
    parts = np.zeros((200, 300))
    for i in range(4):
        one = np.zeros((200, 300), dtype=np.float32)
        add_point_sources(one, x[i : i + 1], y[i : i + 1], np.array([2.0]), beam)
        parts += one
    assert image == pytest.approx(parts, abs=1e-6)
    assert image[100, 150] > 3.5
    assert image[0, 0] > 1.8
    assert image[199, 299] > 1.8


def test_the_sky_ends_at_the_horizon() -> None:
    config = SimulatorConfig(nx=230, ny=180, pixel_deg=0.6, beam_major_deg=2.5, beam_minor_deg=2.0, n_steady=5)
    header, pixels, truth = render(config, 0, 0)
    y, x = np.mgrid[:180, :230]
    longitude, _ = wcs_of(header).wcs_pix2world(x, y, 0)
    assert np.array_equal(np.isnan(pixels), np.isnan(longitude))
    assert 0.2 < np.mean(np.isnan(pixels)) < 0.6
    lower = config.model_copy(update={"horizon_deg": 45.0})
    radius_px = math.sin(math.radians(45.0)) * math.degrees(1.0) / 0.6
    assert np.sum(~beyond_horizon(lower)) == pytest.approx(math.pi * radius_px**2, rel=0.01)
    assert not np.isnan(render(config.model_copy(update={"horizon_deg": None}), 0, 0).pixels).any()
    centres = np.rint(truth.sources["y"]).astype(int), np.rint(truth.sources["x"]).astype(int)
    assert not np.isnan(pixels[centres]).any()


def test_the_far_side_of_the_sky_has_no_pixel() -> None:
    config = wide(10.0, 20.0)
    x, y = to_pixel(config, pointing_of(config, 0), np.array([190.0, 10.0, 10.0]), np.array([-20.0, -80.0, 20.0]))
    assert np.array_equal(np.isnan(x), [True, True, False])
    assert (x[2], y[2]) == pytest.approx((149.5, 99.5))


def test_headers_tell_when_where_and_what() -> None:
    config = SimulatorConfig.model_validate({"t_start": "2025-06-30T23:59:59.5Z", "cadence_s": 0.7, "telescope": "X-1"})
    for frame in (0, 3, 1_000_000):
        header = header_of(config, 1, frame)
        assert header["TIMESYS"] == "UTC"
        since = datetime.fromisoformat(str(header["DATE-OBS"])) - datetime.fromisoformat("2025-06-30T23:59:59.5")
        assert since.total_seconds() == pytest.approx(frame * 0.7, abs=1e-6)
        assert header["EXPTIME"] == 0.7
    assert (header["RESTFRQ"], header["RESTBW"], header["BUNIT"]) == (61.9140625e6, 195_312.5, "JY/BEAM")
    assert (header["BMAJ"], header["BMIN"], header["BPA"], header["TELESCOP"]) == (0.5, 0.4, 30.0, "X-1")


def test_a_drifting_zenith_follows_the_stars() -> None:
    config = wide().model_copy(update={"drift": True, "cadence_s": 60.0})
    for frame in (1, 360, 1436):
        turned_deg = earth_rotation_deg(frame / 1440) - earth_rotation_deg(0.0)
        moved_deg = pointing_of(config, frame).ra_deg - config.ra_deg
        assert (moved_deg - turned_deg + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=1e-6)
        assert header_of(config, 0, frame)["CRVAL1"] == pointing_of(config, frame).ra_deg
        assert 0.0 <= pointing_of(config, frame).ra_deg < 360.0


def test_a_drifting_sky_moves_to_the_west() -> None:
    config = wide().model_copy(update={"drift": True, "cadence_s": 60.0})
    before, after = (truth_of(config, 0, frame).sources for frame in (0, 5))
    both, i, j = np.intersect1d(before["name"], after["name"], return_indices=True)
    assert len(both) > 5
    assert np.array_equal(before["ra_deg"][i], after["ra_deg"][j])
    assert np.all(after["x"][j] > before["x"][i]), "west is right"
