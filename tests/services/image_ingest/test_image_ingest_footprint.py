from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from ingest_inputs import header
from trapline.common.wcs import parse_wcs
from trapline.image_ingest.cards import Cards, quiet
from trapline.image_ingest.footprint import Footprint, read_footprint


def footprint(shape: tuple[int, int], **cards: Any) -> tuple[Footprint | None, list[str]]:
    with quiet():
        made = Cards(header(shape, **cards))
        found = read_footprint(made, shape)
    return found, made.findings.faults


def by_astropy(shape: tuple[int, int], x: Any, y: Any, **cards: Any) -> Any:
    """Sky positions of 0-based pixels, by astropy's own high-level interface."""
    with quiet():
        wcs: Any = WCS(header(shape, **cards)).celestial
        sky: Any = wcs.pixel_to_world(x, y)
    return sky.icrs


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"RADESYS": "FK5", "EQUINOX": 2000.0},
        {"RADESYS": "FK4", "EQUINOX": 1950.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"},
        {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 42.0},
        {"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"},
        {"CTYPE1": "GLON-SIN", "CTYPE2": "GLAT-SIN"},
        {"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
        {"CRVAL1": -76.0},
        {"CRVAL1": 359.99, "CRVAL2": 0.0},
        {"CRVAL1": 0.0, "CRVAL2": 89.97},
        {"CRVAL2": -90.0},
        {"CDELT1": None, "CDELT2": None, "CD1_1": -0.002, "CD1_2": 0.001, "CD2_1": 0.001, "CD2_2": 0.002},
        {"CROTA2": 30.0},
        {"CTYPE3": "FREQ", "CRVAL3": 1e9, "CTYPE4": "STOKES", "CRVAL4": 1.0},
    ],
)
def test_centre_and_radius_are_those_of_the_array_in_icrs(cards: dict[str, Any]) -> None:
    ny, nx = shape = (40, 71)
    found, faults = footprint(shape, **cards)
    assert faults == []
    assert found is not None
    centre = by_astropy(shape, (nx - 1) / 2, (ny - 1) / 2, **cards)
    assert 0 <= found.centre_ra_deg < 360
    ours: Any = SkyCoord(found.centre_ra_deg, found.centre_dec_deg, unit="deg")
    assert ours.separation(centre).deg < 1e-9
    corners = by_astropy(shape, [-0.5, -0.5, nx - 0.5, nx - 0.5], [-0.5, ny - 0.5, -0.5, ny - 0.5], **cards)
    assert found.radius_deg == pytest.approx(np.max(corners.separation(centre).deg), rel=1e-6)
    # The cards that travel give the same sky.
    ra, dec = parse_wcs(found.cards).to_sky(3.0, 5.0)
    there = by_astropy(shape, 3.0, 5.0, **cards)
    carried: Any = SkyCoord(float(ra), float(dec), unit="deg")
    assert carried.separation(there).deg < 1e-9


def test_the_centre_is_not_the_reference_pixel() -> None:
    found, _ = footprint((40, 70), CRPIX1=-500.0, CRPIX2=300.0)
    assert found is not None
    centre: Any = SkyCoord(found.centre_ra_deg, found.centre_dec_deg, unit="deg")
    assert centre.separation(SkyCoord(83.63, 22.01, unit="deg")).deg > 1


def test_the_cards_hold_no_times_so_that_a_field_keeps_them() -> None:
    first, _ = footprint((40, 70), DATE_OBS="2020-06-01T12:00:00", MJD_OBS=59001.5)
    second, _ = footprint((40, 70), DATE_OBS="2021-06-01T12:00:00", MJD_OBS=59366.5)
    assert first is not None
    assert first == second


@pytest.mark.parametrize("shape", [(200, 200), (150, 260)])
def test_an_all_sky_image_reaches_to_the_horizon(shape: tuple[int, int]) -> None:
    ny, nx = shape
    scale = np.degrees(1) / (min(shape) / 2 - 2)
    found, faults = footprint(
        shape, CRPIX1=(nx + 1) / 2, CRPIX2=(ny + 1) / 2, CDELT1=-scale, CDELT2=scale, CRVAL1=10.0, CRVAL2=52.9
    )
    assert faults == []
    assert found is not None
    assert (found.centre_ra_deg, found.centre_dec_deg) == pytest.approx((10.0, 52.9))
    assert 89.5 < found.radius_deg <= 90.0001


def test_the_whole_sky_in_one_image() -> None:
    found, _ = footprint(
        (18, 36), CTYPE1="RA---CAR", CTYPE2="DEC--CAR", CRVAL1=180.0, CRVAL2=0.0, CRPIX1=18.5, CRPIX2=9.5, CDELT1=-10.0,
        CDELT2=10.0,
    )  # fmt: skip
    assert found is not None
    assert found.radius_deg == pytest.approx(180.0)


def test_the_pixel_is_that_of_the_reference() -> None:
    found, _ = footprint((40, 70), CDELT1=-0.002, CDELT2=0.008)
    assert found is not None
    assert found.pixel_deg == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        (
            {"CTYPE1": None, "CRVAL2": None, "CRPIX1": None},
            ["CTYPE1 is missing", "CRVAL2 is missing", "CRPIX1 is missing"],
        ),
        ({"CDELT1": None, "CDELT2": None}, ["CDELT1 is missing", "CDELT2 is missing"]),
        ({"CRVAL1": "here"}, ["CRVAL1 is 'here'; expected a number"]),
        ({"CRVAL1": "nan"}, ["CRVAL1 is nan; expected a finite number"]),
        ({"CTYPE1": "DEC--SIN", "CTYPE2": "RA---SIN"}, ["expected the longitude first"]),
        ({"CTYPE1": "X", "CTYPE2": "Y"}, ["the WCS is unusable"]),
        ({"CTYPE1": "RA---SIN", "CTYPE2": "RA---SIN"}, ["the WCS is unusable"]),
        ({"CDELT1": 0.0}, ["the WCS is unusable"]),
        ({"CRPIX1": 1e9}, ["the WCS is unusable: the centre of the image is not on the sky"]),
        ({"CRVAL1": 1e300}, ["CRVAL1 is 1e+300; expected a position"]),
        ({"RADESYS": "SUN"}, ["the WCS is unusable"]),
    ],
)
def test_a_bad_wcs_is_named(cards: dict[str, Any], named: list[str]) -> None:
    found, faults = footprint((40, 70), **cards)
    assert found is None
    assert all(any(name in fault for fault in faults) for name in named), faults
    assert all("\n" not in fault for fault in faults)
