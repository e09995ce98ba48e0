from __future__ import annotations

import math
from typing import Any

import astropy.units as u
import numpy as np
import pytest

from ingest_inputs import header, settings
from trapline.image_ingest.bands import choose_band
from trapline.image_ingest.cards import Cards, Found
from trapline.image_ingest.config import BandConfig
from trapline.image_ingest.spectrum import Spectrum, read_spectrum

C = 299_792_458.0


def spectrum(instrument: str = "generic-radio", **cards: Any) -> tuple[Spectrum, Cards]:
    made = Cards(header((4, 5), **{"RESTFRQ": None, "RESTBW": None} | cards))
    return read_spectrum(made, settings().named(instrument)), made


def axis(number: int, kind: str, value: float, step: float, unit: str = "", **more: Any) -> dict[str, Any]:
    cards: dict[str, Any] = {f"CTYPE{number}": kind, f"CRVAL{number}": value, f"CDELT{number}": step}
    return cards | ({f"CUNIT{number}": unit} if unit else {}) | more


@pytest.mark.parametrize(
    ("cards", "freq_hz", "bandwidth_hz"),
    [
        ({"RESTFRQ": 60e6, "RESTBW": 195e3}, 60e6, 195e3),
        ({"RESTFREQ": "6000000"}, 6e6, 0.0),
        (axis(3, "FREQ", 143.65e6, 46.875e6, "Hz"), 143.65e6, 46.875e6),
        (axis(4, "FREQ-OBS", 60.0765e6, 154.2e3, "HZ"), 60.0765e6, 154.2e3),
        (axis(4, "FREQ", 1.4, 0.05, "GHz"), 1.4e9, 50e6),
        (axis(3, "FREQ", 100e6, -1e6, CRPIX3=1.0), 100e6, 1e6),
        (axis(3, "FREQ", 100e6, 1e6, CRPIX3=3.0), 98e6, 1e6),
        (axis(3, "SPECLNMF", 1.28e9, 8e8), 1.28e9, 8e8),
        ({"RESTFRQ": 60e6} | axis(3, "FREQ", 60e6, 1e6), 60e6, 1e6),
        ({"RESTFRQ": 1.420405752e9} | axis(3, "FREQ", 887.5e6, 288e6), 887.5e6, 288e6),
        ({"RESTFRQ": 60e6, "RESTBW": 1e5} | axis(3, "FREQ", 887.5e6, 288e6), 60e6, 1e5),
        ({"RESTFRQ": 0.0} | axis(3, "FREQ", 887.5e6, 288e6), 887.5e6, 288e6),
        ({"RESTFRQ": 887.5e6} | axis(3, "FREQ", 0.0, 1e6), 887.5e6, 0.0),
        ({"RESTFRQ": 16.5e9} | axis(4, "VOPT", 0.0, -2.5e7, "m/s"), 16.5e9, 16.5e9 * 2.5e7 / C),
        (axis(3, "WAVE", 0.21, 0.001, "m"), C / 0.21, C * 0.001 / 0.21**2),
        (axis(3, "AWAV", 650.0, 10.0, "nm"), C / 650e-9, C * 10e-9 / 650e-9**2),
    ],
)
def test_frequency_and_bandwidth_are_found(cards: dict[str, Any], freq_hz: float, bandwidth_hz: float) -> None:
    found, made = spectrum(**cards)
    assert found.freq_hz is not None
    assert found.freq_hz.value == pytest.approx(freq_hz, rel=1e-12)
    assert found.bandwidth_hz == pytest.approx(bandwidth_hz, rel=1e-9)
    assert made.findings.faults == []
    assert ("bandwidth_missing" in made.findings.flags) == (bandwidth_hz == 0)


@pytest.mark.parametrize(
    ("kind", "velocity"), [("VOPT", 3e6), ("VOPT-F2W", 3e6), ("FELO-HEL", 3e6), ("VRAD", 3e6), ("VELO-LSR", 3e6)]
)
def test_velocities_are_those_of_astropy(kind: str, velocity: float) -> None:
    rest = 1.420405752e9
    convention = u.doppler_optical if kind[:4] in {"VOPT", "FELO"} else u.doppler_radio
    line: Any = convention(rest * u.Hz)
    velocities: Any = np.array([velocity + 5e3, velocity, velocity - 5e3]) * (u.m / u.s)
    low, middle, high = velocities.to_value(u.Hz, equivalencies=line)
    found, _ = spectrum(**axis(3, kind, velocity, 1e4, "m/s", RESTFRQ=rest))
    assert found.freq_hz is not None
    assert found.freq_hz.value == pytest.approx(middle, rel=1e-12)
    assert found.bandwidth_hz == pytest.approx(high - low, rel=1e-6)


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({}, ("RESTFRQ", "RESTFREQ", "CTYPE3", "CRVAL3", "CTYPE4", "CRVAL4")),
        (axis(3, "FREQ", -5.0, 1.0), ("RESTFRQ",)),
        (axis(3, "FREQ", 60.0, 1.0, "Jy"), ("CUNIT3 is 'Jy'; expected Hz",)),
        ({"RESTFRQ": "high"}, ("RESTFRQ is 'high'; expected a number",)),
        ({"RESTFRQ": "inf"}, ("RESTFRQ is inf",)),
    ],
)
def test_a_missing_or_bad_frequency_is_named(cards: dict[str, Any], named: tuple[str, ...]) -> None:
    found, made = spectrum(**cards)
    assert found.freq_hz is None
    assert all(any(name in fault for fault in made.findings.faults) for name in named), made.findings


def test_an_optical_image_has_a_filter() -> None:
    found, _ = spectrum("generic-optical", FILTER="ZTF_r")
    assert found.filter == Found("ZTF_r", "FILTER")
    _, made = spectrum("generic-optical")
    assert "FILTER" in made.findings.faults[0]


def radio(freq_hz: float, bandwidth_hz: float) -> Spectrum:
    return Spectrum(Found(freq_hz, "RESTFRQ"), bandwidth_hz)


BANDS = [
    BandConfig(name="low", freq_hz=60e6, bandwidth_hz=200e3),
    BandConfig(name="high", freq_hz=60.2e6, bandwidth_hz=200e3),
    BandConfig(name="red", filter="r"),
]


@pytest.mark.parametrize(
    ("freq_hz", "bandwidth_hz", "name"),
    [
        (60e6, 195e3, "low"),
        (60.2e6, 195e3, "high"),
        (60.2e6, 200e3, "high"),  # touches the first band and does not overlap it
        (60.1e6, 20e3, "low"),  # overlaps both: the first
        (60.2e6, 200e3 + 1e-3, "high"),  # less than a hertz is rounding
        (59.9e6, 0.0, "low"),
        (60.1e6, 0.0, "high"),
        (61e6, 100e3, "60.950-61.050 MHz"),
        (61e6 + 300.0, 100e3 + 400.0, "60.950-61.050 MHz"),
        (61e6, 0.0, "61.000-61.000 MHz"),
    ],
)
def test_an_image_belongs_to_the_first_band_that_it_overlaps(freq_hz: float, bandwidth_hz: float, name: str) -> None:
    band = choose_band(radio(freq_hz, bandwidth_hz), "I", BANDS)
    assert band is not None
    assert band.name == name


def test_an_unconfigured_band_is_the_interval_in_whole_kilohertz() -> None:
    band = choose_band(radio(143_650_817.871094, 46_875_000.0), "I", [])
    assert band is not None
    assert band.freq_hz is not None
    assert band.bandwidth_hz is not None
    low, high = band.freq_hz - band.bandwidth_hz / 2, band.freq_hz + band.bandwidth_hz / 2
    assert (low % 1000, high % 1000) == (0, 0)
    assert abs(low - (143_650_817.871094 - 23_437_500)) <= 500
    assert abs(high - (143_650_817.871094 + 23_437_500)) <= 500


def test_a_band_wider_than_its_frequency_begins_at_zero() -> None:
    band = choose_band(radio(1e6, 1e9), "I", [])
    assert band is not None
    assert band.name.startswith("0.000-")
    assert math.isfinite(band.freq_hz or math.nan)


def test_stokes_is_part_of_the_band() -> None:
    intensity, circular = (choose_band(radio(60e6, 1e5), stokes, BANDS) for stokes in ("I", "V"))
    assert intensity is not None
    assert circular is not None
    assert (intensity.name, circular.name) == ("low", "low V")
    assert circular.freq_hz == intensity.freq_hz


def test_optical_bands_go_by_filter() -> None:
    found = [choose_band(Spectrum(filter=Found(name, "FILTER")), "I", BANDS) for name in ("r", "g")]
    assert [band.name for band in found if band] == ["red", "g"]
    assert choose_band(Spectrum(), "I", BANDS) is None
