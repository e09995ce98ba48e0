"""Between pixels and the sky, against astropy: projections, frames, poles, and cards that are none."""

import warnings

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import pixel_to_skycoord

from trapline.common.sky import separation_deg
from trapline.common.wcs import WcsError, parse_wcs, wcs_cards

FRAMES = {
    "icrs": ("RA---{}", "DEC--{}", {"RADESYS": "ICRS"}),
    "fk5": ("RA---{}", "DEC--{}", {"RADESYS": "FK5", "EQUINOX": 2000.0}),
    "fk5 of date": ("RA---{}", "DEC--{}", {"RADESYS": "FK5", "EQUINOX": 2015.5}),
    "fk4": ("RA---{}", "DEC--{}", {"RADESYS": "FK4", "EQUINOX": 1950.0}),
    "galactic": ("GLON-{}", "GLAT-{}", {}),
    "ecliptic": ("ELON-{}", "ELAT-{}", {"RADESYS": "ICRS"}),
}


def header(projection="SIN", frame="icrs", lon=359.95, lat=52.9, shape=(200, 300), scale=0.05, **more):
    lon_type, lat_type, cards = FRAMES[frame]
    made = fits.Header()
    values = {
        "NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0], "CTYPE1": lon_type.format(projection),
        "CTYPE2": lat_type.format(projection), "CRVAL1": lon, "CRVAL2": lat, "CRPIX1": 140.0, "CRPIX2": 90.0,
        "CDELT1": -scale, "CDELT2": scale, "CUNIT1": "deg", "CUNIT2": "deg", "DATE-OBS": "2015-07-01T00:00:00",
    }  # fmt: skip
    for key, value in {**values, **cards, **more}.items():
        made[key] = value
    return made


def astropys(made, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sky = pixel_to_skycoord(x, y, WCS(made).celestial, origin=0).icrs
    return sky.ra.deg, sky.dec.deg


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("projection", ["SIN", "TAN", "ZEA", "STG"])
@pytest.mark.parametrize("lat", [52.9, -89.99, 90.0, 0.0])
def test_positions_are_those_of_astropy_and_go_back(frame, projection, lat):
    made = header(projection, frame, lat=lat)
    wcs = parse_wcs(wcs_cards(made))
    y, x = np.mgrid[0:200:7.3, 0:300:7.7]
    ra, dec = wcs.to_sky(x, y)
    assert separation_deg(ra, dec, *astropys(made, x, y)).max() < 1e-9
    assert ra.min() >= 0 and ra.max() < 360
    back_x, back_y = wcs.to_pixel(ra, dec)
    np.testing.assert_allclose(back_x, x, atol=1e-6)
    np.testing.assert_allclose(back_y, y, atol=1e-6)


def test_the_first_pixel_is_zero_and_x_is_the_fast_axis():
    wcs = parse_wcs(wcs_cards(header()))
    assert separation_deg(*wcs.to_sky(139.0, 89.0), 359.95, 52.9) < 1e-10
    ra, dec = wcs.to_sky(138.0, 89.0)
    assert dec == pytest.approx(52.9, abs=1e-3) and separation_deg(ra, dec, 359.95, 52.9) == pytest.approx(
        0.05, rel=1e-3
    )


@pytest.mark.parametrize("lat", [52.9, 90.0, -90.0])
def test_the_jacobian_is_that_of_small_steps_on_the_sky(lat):
    wcs = parse_wcs(wcs_cards(header(lat=lat, PC1_1=0.8, PC1_2=-0.6, PC2_1=0.6, PC2_2=0.8)))
    x, y = np.array([20.0, 139.5, 250.0]), np.array([10.0, 90.0, 180.0])
    axes = wcs.axes_at(x, y)
    here = SkyCoord(*wcs.to_sky(x, y), unit="deg")
    for column, (dx, dy) in enumerate([(1e-3, 0), (0, 1e-3)]):
        there = SkyCoord(*wcs.to_sky(x + dx, y + dy), unit="deg")
        apart, angle = here.separation(there).deg / 1e-3, here.position_angle(there).rad
        expected = np.stack([apart * np.sin(angle), apart * np.cos(angle)], axis=-1)
        np.testing.assert_allclose(axes[:, :, column], expected, atol=2e-5)


def test_outside_the_projection_there_is_nothing():
    wcs = parse_wcs(wcs_cards(header(lat=90.0, scale=0.5)))
    ra, dec = wcs.to_sky([299.0], [199.0])
    assert np.isnan(ra).all() and np.isnan(dec).all()
    x, y = wcs.to_pixel([0.0], [-30.0])
    assert np.isnan(x).all() and np.isnan(y).all()


def test_axes_of_a_cube_are_left_out():
    made = header(CTYPE3="FREQ", CRVAL3=60e6, CDELT3=1e5, CRPIX3=1.0, CTYPE4="STOKES", CRVAL4=1.0, CRPIX4=1.0)
    assert separation_deg(*parse_wcs(wcs_cards(made)).to_sky(139.0, 89.0), 359.95, 52.9) < 1e-10


def test_images_of_one_field_have_the_same_cards_whatever_the_time():
    one, other = header(), header(**{"DATE-OBS": "2026-01-01T00:00:07", "MJD-OBS": 61041.0})
    assert wcs_cards(one) == wcs_cards(other)
    assert parse_wcs(wcs_cards(one)) is parse_wcs(wcs_cards(other))


@pytest.mark.parametrize(
    "changes",
    [{"CTYPE1": "FREQ"}, {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, {"CTYPE1": "RA---SIN", "CTYPE2": "GLAT-SIN"}],
    ids=["frequency", "projection", "mixed"],
)
def test_cards_that_are_no_celestial_wcs_are_refused(changes):
    with pytest.raises(WcsError):
        wcs_cards(header(**changes))


@pytest.mark.parametrize("cards", ["", "nonsense", "CTYPE1  = 'RA---SIN'".ljust(80)])
def test_text_that_is_no_wcs_is_refused(cards):
    with pytest.raises(WcsError):
        parse_wcs(cards)
