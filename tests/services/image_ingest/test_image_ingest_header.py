from __future__ import annotations

from typing import Any

import pytest
from astropy.io import fits

from ingest_inputs import header, settings
from trapline.image_ingest.cards import Cards, quiet
from trapline.image_ingest.header import Metadata, read_header
from trapline.image_ingest.units import PixelUnit, pixel_unit
from trapline.schemas.image import Beam


def read(made: fits.Header) -> Metadata:
    with quiet():
        cards = Cards(made)
        return read_header(cards, settings().recognise(cards))


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({"BMAJ": None, "BMIN": None, "BPA": None}, ["BMAJ", "CLEANBMJ", "HISTORY"]),
        ({"BMIN": None}, ["BMIN is missing"]),
        ({"BPA": None}, ["BPA is missing"]),
        ({"BMAJ": "wide"}, ["BMAJ is 'wide'; expected a number"]),
        ({"BMAJ": 0.01}, ["BMIN (0.015) is larger than BMAJ (0.01)"]),
        ({"BMAJ": True}, ["BMAJ is True; expected a number"]),
        ({"BUNIT": "K"}, ["BUNIT is 'K'"]),
        ({"CTYPE3": "STOKES", "CRVAL3": 9.0}, ["CRVAL3 is 9"]),
        ({"CTYPE3": "STOKES", "CRVAL3": 0.0}, ["CRVAL3 is 0"]),
    ],
)
def test_what_is_missing_or_bad_is_named(cards: dict[str, Any], named: list[str]) -> None:
    faults = read(header((4, 5), **cards)).findings.faults
    assert all(any(name in fault for fault in faults) for name in named), faults


def test_all_missing_keys_are_named_at_once() -> None:
    nothing = dict.fromkeys(("BMAJ", "BMIN", "BPA", "RESTFRQ", "RESTBW", "DATE-OBS", "EXPTIME", "TELESCOP"))
    made = header((4, 5))
    for key in nothing:
        made.remove(key)
    found = read(made)
    reasons = found.findings.reasons()
    text = " | ".join(reason.text for reason in reasons)
    for key in ("BMAJ", "CLEANBMJ", "RESTFRQ", "CRVAL3", "DATE-OBS", "MJD-OBS", "EXPTIME", "END_UTC", "TELESCOP"):
        assert key in text
    assert {reason.check for reason in reasons} == {"header"}
    assert len(reasons) == 5


def test_gaps_alone_reject_nothing() -> None:
    found = read(header((4, 5), EXPTIME=None, TELESCOP=None, RESTBW=None))
    assert found.findings.reasons() == []
    assert set(found.findings.flags) == {"telescope_missing", "bandwidth_missing", "exposure_missing"}


def test_a_round_beam_needs_no_angle() -> None:
    found = read(header((4, 5), BMIN=0.02, BPA=None))
    assert found.findings.faults == []
    assert found.beam == Beam(0.02, 0.02, 0.0)


def test_unreadable_and_blank_cards() -> None:
    text = header((4, 5)).tostring()
    text = text.replace("BMAJ    =                 0.02", "BMAJ    =             0.0.2.x ")
    text = text.replace("BUNIT   = 'JY/BEAM '", "BUNIT   = '        '")
    found = read(fits.Header.fromstring(text))
    assert any(fault.startswith("BMAJ is unreadable") for fault in found.findings.faults)
    assert found.unit == PixelUnit("Jy", 1.0)
    assert "unit_from_instrument" in found.findings.flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JY/BEAM", ("Jy", 1.0)), ("Jy/beam", ("Jy", 1.0)), ("Jy beam-1", ("Jy", 1.0)), ("Jy.beam^-1", ("Jy", 1.0)),
        ("Jy beam**-1", ("Jy", 1.0)), ("Jy / beam", ("Jy", 1.0)), ("Jy", ("Jy", 1.0)), ("mJy/beam", ("Jy", 1e-3)),
        ("MJY/BEAM", ("Jy", 1e-3)), ("uJy", ("Jy", 1e-6)), ("nJy", ("nJy", 1.0)), ("ADU", ("count", 1.0)),
        ("counts", ("count", 1.0)), ("electron/s", ("count", 1.0)), ("DN", ("count", 1.0)),
        ("K", None), ("JY/PIXEL", None), ("MJy/sr", None), ("", None), ("Jy km/s", None), ("m", None),
    ],
)  # fmt: skip
def test_units_as_headers_write_them(text: str, expected: tuple[str, float] | None) -> None:
    found = pixel_unit(text)
    assert (tuple(found) if found else None) == expected
