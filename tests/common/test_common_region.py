from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from extractor_skies import PIXEL_DEG, astropy_wcs, make_image, separation_deg
from trapline.common.region import covers, inside
from trapline.schemas.image import Image

SHAPE = (200, 320)
ALL_SKY: dict[str, Any] = {"CDELT1": -0.5, "CDELT2": 0.5, "CRVAL1": 80.0, "CRVAL2": 52.9}


def test_without_a_radius_the_region_is_the_array_without_its_margin() -> None:
    image = make_image(SHAPE, margin_px=10)
    x = np.array([9.4, 9.5, 160.0, 309.4, 309.5, 160.0, 160.0, 160.0, 160.0])
    y = np.array([100.0, 100.0, 100.0, 100.0, 100.0, 9.4, 9.5, 189.4, 189.5])
    assert list(inside(image, x, y)) == [False, True, True, True, False, False, True, True, False]
    whole = make_image(SHAPE)
    assert inside(whole, -0.5, 199.4)
    assert inside(whole, 319.4, -0.5)
    assert not inside(whole, 199.4, 319.4), "x runs along the second axis of the array"


def test_a_radius_is_a_circle_on_the_sky_about_the_centre_of_the_array() -> None:
    # Pixels twice as high as wide, rotated, and a reference that is not the centre.
    image = make_image(SHAPE, radius_deg=0.12, CROTA2=20.0, CDELT2=2 * PIXEL_DEG, CRPIX1=-40.0, CRPIX2=300.0)
    y, x = (axis.ravel() for axis in np.mgrid[0:200:3, 0:320:3])
    wcs = astropy_wcs(image)
    separation = wcs.pixel_to_world(x, y).separation(wcs.pixel_to_world(159.5, 99.5)).deg
    clear = np.abs(separation - 0.12) > 0.0005
    expected = separation < 0.12
    assert 0 < expected.sum() < expected.size
    assert (inside(image, x, y)[clear] == expected[clear]).all()


@pytest.mark.parametrize("radius_deg", [20.0, 60.0, 89.0])
def test_in_an_all_sky_image_the_circle_is_drawn_through_the_projection(radius_deg: float) -> None:
    image = make_image((240, 250), radius_deg=radius_deg, **ALL_SKY)
    y, x = (axis.ravel() for axis in np.mgrid[0:240, 0:250])
    # Orthographic: the zenith angle is the arcsine of the distance in radians at the scale of the centre.
    distance = np.radians(0.5 * np.hypot(x - 124.5, y - 119.5))
    edge = np.sin(np.radians(radius_deg))
    clear = np.abs(distance - edge) > 1e-3
    assert (inside(image, x, y)[clear] == (distance < edge)[clear]).all()


@pytest.mark.parametrize("radius_deg", [90.0, 180.0, 1000.0])
def test_a_circle_of_all_the_sky_ends_at_the_horizon(radius_deg: float) -> None:
    image = make_image((240, 250), radius_deg=radius_deg, **ALL_SKY)
    horizon_px = np.degrees(1.0) / 0.5
    assert inside(image, 124.5 + horizon_px - 0.5, 119.5)
    assert not inside(image, 124.5 + horizon_px + 0.5, 119.5)


@pytest.mark.parametrize("radius_deg", [0.0, -1.0, float("nan")])
def test_a_circle_without_area_holds_nothing(radius_deg: float) -> None:
    assert not inside(make_image(SHAPE, radius_deg=radius_deg), 159.0, 99.0)


@pytest.mark.parametrize(
    "cards",
    [
        pytest.param({}, id="ICRS"),
        pytest.param({"CRVAL1": 0.01, "CRVAL2": -20.0}, id="across RA 0"),
        pytest.param({"CRVAL1": 0.0, "CRVAL2": 89.95}, id="over the pole"),
        pytest.param({"CRVAL2": -90.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}, id="at the other pole"),
        pytest.param({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, id="galactic"),
    ],
)
def test_what_is_inside_is_covered_and_nothing_else(cards: dict[str, Any]) -> None:
    image = make_image(SHAPE, margin_px=7, radius_deg=0.15, **cards)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-80, 400, 4000), rng.uniform(-80, 280, 4000)
    sky = astropy_wcs(image).pixel_to_world(x, y).icrs
    found = covers(image, sky.ra.deg, sky.dec.deg)
    assert 0 < found.sum() < found.size
    assert (found == inside(image, x, y)).all()


@pytest.mark.parametrize("cards", [{}, ALL_SKY, {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}])
def test_the_far_side_of_the_sky_is_never_covered(cards: dict[str, Any]) -> None:
    image = make_image((240, 250), **cards)
    centre = SkyCoord(*astropy_wcs(image).wcs.crval, unit="deg")
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    separation = separation_deg(ra, dec, centre)
    found = covers(image, ra, dec)
    assert not found[separation > 90].any()
    if cards is ALL_SKY:
        assert found[separation < 75].all()


def test_a_distortion_does_not_fold_the_sky_onto_the_array() -> None:
    sip: dict[str, Any] = {"A_ORDER": 3, "B_ORDER": 3, "A_3_0": -4e-6, "B_0_3": -4e-6, "A_1_2": -4e-6, "B_2_1": -4e-6}
    image = make_image(SHAPE, CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", **sip)
    wcs = astropy_wcs(image)
    centre = wcs.pixel_to_world(159.5, 99.5)
    rng = np.random.default_rng(2)
    ra, dec = centre.ra.deg + rng.uniform(-3, 3, 3000), centre.dec.deg + rng.uniform(-3, 3, 3000)
    found = covers(image, ra, dec)
    corners = wcs.pixel_to_world([0, 0, 319, 319], [0, 199, 0, 199])
    reach = corners.separation(centre).deg.max()
    separation = separation_deg(ra, dec, centre)
    assert not found[separation > 1.05 * reach].any()
    assert found[separation < 0.1].all()


def test_nan_is_nowhere_and_shapes_are_kept() -> None:
    image = make_image(SHAPE, radius_deg=1.0)
    assert not inside(image, np.nan, 3.0)
    assert not covers(image, np.nan, 35.0)
    assert not covers(image, 150.0, np.nan).any()
    assert inside(image, np.zeros((3, 1)), np.zeros((1, 4))).shape == (3, 4)
    assert covers(image, np.full((3, 1), 150.0), np.full((1, 4), 35.0)).shape == (3, 4)
    assert covers(image, np.array([]), np.array([])).shape == (0,)
    assert bool(covers(image, 150.0, 35.0)) is True


def test_an_image_of_which_too_little_is_known_is_refused() -> None:
    bare = Image(id=b"0" * 16)
    with pytest.raises(ValueError, match="no shape"):
        inside(bare, 1, 1)
    with pytest.raises(ValueError, match="no WCS"):
        covers(Image(id=b"0" * 16, shape=SHAPE), 1, 1)
    with pytest.raises(ValueError, match="no WCS"):
        inside(Image(id=b"0" * 16, shape=SHAPE, radius_deg=1.0), 1, 1)
