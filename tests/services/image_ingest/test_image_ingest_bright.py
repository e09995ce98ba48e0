"""Bright sources and theoretical noise: against published values, and without any network."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from astropy.coordinates import SkyCoord, get_body, get_sun
from astropy.time import Time

from ingest_inputs import RADIO, header, noise, settings
from trapline.image_ingest.bright import FIXED, position_of, separations_deg
from trapline.image_ingest.core import describe
from trapline.image_ingest.lofar import Stations, effective_area_m2, sefd_jy, thermal_noise_jy
from trapline.schemas.image import Image

DAY = 1_590_969_600_000_000
"""2020-06-01T00:00 UTC"""


@pytest.mark.parametrize("t_us", [DAY, DAY + 86_399_000_000, 1_000_000_000_000_000, 0])
def test_sun_and_jupiter_are_where_astropy_sees_them(t_us: int) -> None:
    time = Time(t_us / 1e6, format="unix")
    for name, body in (("Sun", get_sun(time)), ("Jupiter", get_body("jupiter", time))):
        ours = SkyCoord(*position_of(name, t_us), unit="deg")
        there = SkyCoord(body.ra, body.dec)
        assert ours.separation(there).arcmin < 3


def test_the_sun_of_the_almanac() -> None:
    # Solstice of June 2020 was at 21:44 on the 20th, UTC: right ascension 6 h of date, 5 h 59 m in ICRS.
    ra, dec = position_of("Sun", 1_592_689_440_000_000)
    assert ra == pytest.approx(89.72, abs=0.05)
    assert dec == pytest.approx(23.44, abs=0.02)


@pytest.mark.parametrize("name", FIXED)
def test_the_a_team_is_where_astropy_knows_it_without_asking(name: str) -> None:
    galactic = {
        "CasA": (111.735, -2.130),
        "CygA": (76.190, 5.755),
        "TauA": (184.557, -5.784),
        "HerA": (22.985, 28.925),
        "VirA": (283.778, 74.491),
    }[name]
    there = SkyCoord(*galactic, unit="deg", frame="galactic")
    assert SkyCoord(*position_of(name, DAY), unit="deg").separation(there).arcmin < 5


def test_distances() -> None:
    found = separations_deg(("CasA", "Sun"), 350.858, 58.8, DAY)
    assert found["CasA"] == pytest.approx(0, abs=1e-6)
    assert 30 < found["Sun"] < 90


OFFLINE = """
import os, socket
def refuse(*_, **__):
    print("something looked for the network")
    os._exit(3)
socket.socket.connect = socket.getaddrinfo = refuse
from astropy.time import Time
from astropy.utils import iers
# A computer that has not been updated for long: every table of leap seconds has expired.
iers.LeapSeconds._today = classmethod(lambda cls: Time("2099-01-01", scale="tai"))
from trapline.image_ingest.bright import position_of
from trapline.image_ingest.cards import quiet
from trapline.image_ingest.times import from_mjd, to_utc_us
with quiet():
    for year in (1975, 2000, 2026, 2060, 2100):
        t_us = (year - 1970) * 31_556_952_000_000
        position_of("Sun", t_us), position_of("Jupiter", t_us)
        to_utc_us(from_mjd(40_587 + t_us / 86_400e6), "tai")
"""


def test_nothing_is_downloaded() -> None:
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# LOFAR's noise


@pytest.mark.parametrize(
    ("antennas", "kind", "mhz", "square_m"),
    [
        ("LBA_INNER", "core", 60, 347.37),
        ("LBA_OUTER", "core", 30, 1343.5),
        ("LBA_SPARSE_EVEN", "remote", 45, 558.64),
        ("HBA_DUAL", "core", 120, 600.0),
        ("HBA_DUAL", "remote", 150, 1024.0),
        ("HBA_DUAL", "international", 180, 1420.0),
    ],
)
def test_effective_areas_are_those_of_astron(antennas: str, kind: str, mhz: float, square_m: float) -> None:
    assert effective_area_m2(antennas, kind, mhz * 1e6) == pytest.approx(square_m, rel=0.05)


def test_the_sensitivity_of_a_core_station_is_as_measured() -> None:
    # Van Haarlem et al. 2013, figure 22: some kJy at 150 MHz, tens of kJy at 60 MHz.
    high = effective_area_m2("HBA_DUAL", "core", 150e6)
    low = effective_area_m2("LBA_INNER", "core", 60e6)
    assert high and low
    assert 2e3 < sefd_jy(high, 150e6) < 5e3
    assert 2e4 < sefd_jy(low, 60e6) < 6e4


def test_equal_stations_follow_the_radiometer_equation() -> None:
    area = effective_area_m2("HBA", "core", 150e6)
    assert area
    expected = sefd_jy(area, 150e6) / np.sqrt(2 * 24 * 23 * 2e5 * 10)
    assert thermal_noise_jy(Stations("HBA", 24, 0), 150e6, 2e5, 10) == pytest.approx(expected)


def test_more_stations_see_deeper() -> None:
    noises = [thermal_noise_jy(Stations("LBA_OUTER", 24, n, i), 60e6, 2e5, 1) for n, i in ((0, 0), (14, 0), (14, 10))]
    assert None not in noises
    assert noises == sorted(noises, key=lambda one: -(one or 0))


@pytest.mark.parametrize(
    ("stations", "bandwidth_hz", "exposure_s"),
    [
        (Stations("LBA_OUTER", 24, 14), 0, 1),
        (Stations("LBA_OUTER", 24, 14), 1e5, 0),
        (Stations("LBA_OUTER", 1, 0), 1e5, 1),
        (Stations("LBA_OUTER", -5, 9), 1e5, 1),
        (Stations("DISHES", 24, 14), 1e5, 1),
    ],
)
def test_what_cannot_be_said_is_not(stations: Stations, bandwidth_hz: float, exposure_s: float) -> None:
    assert thermal_noise_jy(stations, 60e6, bandwidth_hz, exposure_s) is None


# Images that are judged by them

LOFAR = RADIO | {
    "TELESCOP": "LOFAR",
    "ANTENSET": "LBA_OUTER",
    "NCORE": 24,
    "NREMOTE": 14,
    "CRVAL1": 150.0,
    "CRVAL2": 60.0,
}


def described(rms: float, **cards: object) -> Image:
    pixels = noise((32, 40), rms=rms)
    image = describe(header(pixels.shape, LOFAR, **cards), pixels, origin="", settings=settings()).header.image
    assert image is not None
    return image


def checks(image: Image) -> list[str]:
    return [reason.check for reason in image.quality.reasons]


def test_a_lofar_image_lies_between_1_and_80_times_its_thermal_noise() -> None:
    thermal = thermal_noise_jy(Stations("LBA_OUTER", 24, 14), 60e6, 200e3, 2.0)
    assert thermal is not None
    for times, expected in ((0.5, ["noise_theory"]), (2, []), (60, []), (120, ["noise_theory"])):
        assert checks(described(times * thermal)) == expected, times
    (reason,) = described(120 * thermal).quality.reasons
    assert reason.value == pytest.approx(120 * thermal, rel=0.1)
    assert reason.limit == pytest.approx(80 * thermal)


def test_without_its_stations_the_noise_is_not_judged_and_that_is_flagged() -> None:
    image = described(1e-6, NCORE=None)
    assert checks(image) == []
    assert "noise_theory_unknown" in image.quality.flags


@pytest.mark.parametrize(
    ("cards", "near"),
    [
        ({"CRVAL1": 350.0, "CRVAL2": 50.0}, "CasA"),
        ({"CRVAL1": 83.63, "CRVAL2": 12.5}, "TauA"),
        ({"CRVAL1": 83.63, "CRVAL2": 11.5}, None),
        ({"CRVAL1": 70.0, "CRVAL2": 22.0}, "Sun"),
        ({"CRVAL1": 70.0, "CRVAL2": 22.0, "DATE_OBS": "2020-12-01T12:00:00"}, None),
        ({"CRVAL1": 297.0, "CRVAL2": -21.0}, "Jupiter"),
    ],
)
def test_images_near_bright_sources_are_refused(cards: dict[str, object], near: str | None) -> None:
    image = described(0.03, **cards)
    found = [reason for reason in image.quality.reasons if reason.check == "bright_source"]
    assert [reason.text.partition(" ")[0] for reason in found] == ([near] if near else [])
    for reason in found:
        assert reason.value is not None
        assert reason.value < reason.limit == 10.0


def test_only_instruments_that_say_so_avoid_bright_sources() -> None:
    pixels = noise((32, 40))
    image = describe(header(pixels.shape), pixels, origin="", settings=settings()).header.image
    assert image is not None
    assert not image.quality.rejected


def test_the_configuration_wins() -> None:
    pixels = noise((32, 40), rms=0.03)
    known = settings(quality={"avoid": [], "noise_theory_min": 0, "noise_theory_max": 1e9})
    image = describe(header(pixels.shape, LOFAR, CRVAL1=350.0), pixels, origin="", settings=known).header.image
    assert image is not None
    assert not image.quality.rejected
