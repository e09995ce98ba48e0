from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from extractor_skies import (
    PIXEL_DEG,
    add_sources,
    astropy_wcs,
    beam_moments_px,
    columns_of,
    grid_field,
    make_image,
    nearest,
    round_beam,
    separation_deg,
    smooth_noise,
)
from trapline.common.config import Section
from trapline.common.wcs import parse_wcs
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.beam import reference_axes
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.positions import axes_on_sky, on_sky, systematic_errors_deg

ARCSEC = 1 / 3600


@pytest.mark.parametrize(
    ("ra_deg", "dec_deg"), [(0.0, 0.0), (359.9999, -45.0), (90.0, 89.97), (123.0, -90.0), (180.0, 60.0)]
)
def test_positions_are_right_across_ra_zero_and_at_the_poles(ra_deg: float, dec_deg: float) -> None:
    image = make_image((220, 300), round_beam(4), CRVAL1=ra_deg, CRVAL2=dec_deg)
    field = grid_field(2, image, spacing_px=50, snr=(100, 300))
    columns = columns_of(measure(field.pixels, image, ExtractorConfig()))
    assert len(columns["x"]) == len(field.x)
    assert ((columns["ra_deg"] >= 0) & (columns["ra_deg"] < 360)).all()
    truth = astropy_wcs(image).pixel_to_world(columns["x"], columns["y"]).icrs
    found = SkyCoord(columns["ra_deg"], columns["dec_deg"], unit="deg")
    assert truth.separation(found).arcsec.max() < 1e-6
    true = astropy_wcs(image).pixel_to_world(field.x, field.y).icrs
    _, separation, _ = found.match_to_catalog_sky(true)
    error = np.hypot(columns["ra_err_deg"], columns["dec_err_deg"])
    assert (separation.deg < 5 * error).all()
    # A circular beam on square pixels has equal errors in both directions, at a pole too.
    assert columns["ra_err_deg"] == pytest.approx(columns["dec_err_deg"], rel=0.2)


def test_positions_of_other_frames_are_icrs() -> None:
    cards = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 0.02, "CRVAL2": -3.0}
    image = make_image((220, 300), round_beam(4), **cards)
    field = grid_field(2, image, spacing_px=50, snr=(100, 300))
    columns = columns_of(measure(field.pixels, image, ExtractorConfig()))
    assert len(columns["x"]) == len(field.x)
    truth = SkyCoord(*astropy_wcs(image).all_pix2world(columns["x"], columns["y"], 0), unit="deg", frame="galactic")
    assert separation_deg(columns["ra_deg"], columns["dec_deg"], truth).max() < 1e-3 * ARCSEC


def test_beyond_the_horizon_there_are_no_sources_and_towards_it_errors_grow() -> None:
    image = make_image((240, 250), Beam(2.0, 2.0, 0.0), CDELT1=-0.5, CDELT2=0.5, CRVAL1=80.0, CRVAL2=52.9)
    # The horizon is 114.6 px from the zenith at (124.5, 119.5); at 100 px the zenith angle is 60.8 degrees.
    x, y = np.array([124.5, 224.5, 124.5, 15.0, 235.0]), np.array([119.5, 119.5, 219.5, 15.0, 225.0])
    moments = beam_moments_px(image)
    pixels = smooth_noise(np.random.default_rng(1), (240, 250), moments)
    add_sources(pixels, x, y, np.full(5, 100.0), moments)
    columns = columns_of(measure(pixels.astype(np.float32), image, ExtractorConfig()))
    assert len(columns["x"]) == 3, "the two in the corners are nowhere"
    assert np.isfinite(columns["ra_deg"]).all()
    error = np.hypot(columns["ra_err_deg"], columns["dec_err_deg"]) * columns["snr"]
    zenith, west, north = nearest(columns, x[:3], y[:3])[1]
    stretch = np.hypot(1, 1 / np.cos(np.arcsin(np.radians(50.0)))) / np.sqrt(2)
    assert error[[west, north]] / error[zenith] == pytest.approx([stretch, stretch], rel=0.1)
    assert columns["major_deg"] == pytest.approx([2.0, 2.0, 2.0], rel=1e-4), "the beam is that of the reference"


def test_errors_follow_the_axes_of_the_sky() -> None:
    # A rotation by 30 degrees, with pixels twice as high as wide; the covariance is drawn and carried point by point.
    image = make_image((200, 260), round_beam(4), CROTA2=30.0, CDELT2=2 * PIXEL_DEG)
    covariance = np.array([[0.04, 0.015], [0.015, 0.01]])
    assert image.wcs is not None
    result = on_sky(parse_wcs(image.wcs), np.array([40.0]), np.array([150.0]), covariance[None])
    drawn = np.random.default_rng(1).multivariate_normal([40.0, 150.0], covariance, 20_000)
    ra, dec = astropy_wcs(image).all_pix2world(*drawn.T, 0)
    assert result.err_ew_deg[0] == pytest.approx(ra.std() * np.cos(np.radians(dec.mean())), rel=0.02)
    assert result.err_ns_deg[0] == pytest.approx(dec.std(), rel=0.02)


@pytest.mark.parametrize("pa_deg", [0.0, 25.0, 90.0, 155.0, 179.0])
@pytest.mark.parametrize("rotation_deg", [0.0, 70.0])
def test_shapes_have_their_position_angle_north_through_east(pa_deg: float, rotation_deg: float) -> None:
    image = make_image((200, 260), round_beam(4), CROTA2=rotation_deg)
    wcs = astropy_wcs(image)
    centre = SkyCoord(*wcs.wcs.crval, unit="deg")
    moments = np.zeros((2, 2))
    for turn, sigma_deg in ((0, 0.005), (90, 0.002)):
        x, y = wcs.world_to_pixel(centre.directional_offset_by((pa_deg + turn) * u.deg, sigma_deg * u.deg))
        offset = np.array([x, y]) - (wcs.wcs.crpix - 1)
        moments += np.outer(offset, offset)
    assert image.wcs is not None
    axes = reference_axes(parse_wcs(image.wcs), (200, 260))
    major, minor, pa = axes_on_sky(moments[None], axes)
    assert (major[0], minor[0]) == pytest.approx((2.35482 * 0.005, 2.35482 * 0.002), rel=1e-4)
    assert (pa[0] - pa_deg + 90) % 180 == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize(
    ("beam", "expected_deg"),
    [(Beam(0.3, 0.2, 0.0), 10 * ARCSEC), (Beam(0.005, 0.002, 0.0), 0.0002), (None, 0.1 * ARCSEC)],
    ids=["a beam of many arcminutes", "a sharp beam", "no beam"],
)
def test_the_systematic_error_suits_the_instrument(beam: Beam | None, expected_deg: float) -> None:
    assert systematic_errors_deg(ExtractorConfig(), beam) == pytest.approx((expected_deg, expected_deg))
    chosen = ExtractorConfig.model_validate({"ew_sys_err_deg": "2 arcsec", "ns_sys_err_deg": 0})
    assert systematic_errors_deg(chosen, beam) == pytest.approx((2 * ARCSEC, 0.0))


def test_the_systematic_error_enters_one_pair_of_columns_in_quadrature() -> None:
    image: Image = make_image((220, 300), round_beam(4))
    field = grid_field(2, image, spacing_px=50, snr=(100, 300))
    settings = ExtractorConfig.model_validate({"ew_sys_err_deg": "3 arcsec", "ns_sys_err_deg": "4 arcsec"})
    columns, plain = (columns_of(measure(field.pixels, image, s)) for s in (settings, ExtractorConfig()))
    assert (columns["ra_err_deg"] == plain["ra_err_deg"]).all()
    assert columns["pos_err_ew_deg"] ** 2 - columns["ra_err_deg"] ** 2 == pytest.approx((3 * ARCSEC) ** 2)
    assert columns["pos_err_ns_deg"] ** 2 - columns["dec_err_deg"] ** 2 == pytest.approx((4 * ARCSEC) ** 2)


def test_settings_that_contradict_themselves_are_refused() -> None:
    assert issubclass(ExtractorConfig, Section)
    with pytest.raises(ValueError, match="must not exceed"):
        ExtractorConfig(detection_threshold=3, analysis_threshold=4)
    with pytest.raises(ValueError, match="threshhold"):
        ExtractorConfig.model_validate({"detection_threshhold": 5})
    with pytest.raises(ValueError, match="expected a number in deg"):
        ExtractorConfig.model_validate({"ew_sys_err_deg": "10 Jy"})
