"""Units as headers write them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from astropy import units

_SPELLINGS = {
    "HZ": "Hz",
    "KHZ": "kHz",
    "MHZ": "MHz",
    "GHZ": "GHz",
    "M/S": "m/s",
    "KM/S": "km/s",
    "ANGSTROMS": "Angstrom",
}

_PREFIX = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6}
_JANSKY = re.compile(r"(?P<prefix>[mMuUnNµ]?)JY(?P<per>.*)", re.IGNORECASE | re.DOTALL)
_PER_BEAM = re.compile(r"[\s*.]*(/\s*BEAM|BEAM\s*(\^|\*\*)?\s*-\s*1)?\s*", re.IGNORECASE)
_COUNTS = {
    "COUNT", "COUNTS", "CT", "CTS", "ADU", "DN", "DU", "ELECTRON", "ELECTRONS", "E-", "E", "PHOTON", "PHOTONS",
    "COUNTS/S", "COUNT/S", "CT/S", "DN/S", "ADU/S", "ELECTRON/S", "ELECTRONS/S", "E-/S",
}  # fmt: skip


class PixelUnit(NamedTuple):
    """The unit that messages carry, and what pixels are multiplied with to be in it."""

    unit: str
    factor: float


def pixel_unit(text: str) -> PixelUnit | None:
    """Return the unit of BUNIT: flux density (per beam), counts, or None when it is neither.

    A flux per pixel or per solid angle is none: it would need the beam to become comparable.
    """
    match = _JANSKY.fullmatch(text.strip())
    if match is not None and _PER_BEAM.fullmatch(match["per"]):
        if match["prefix"].lower() == "n":
            return PixelUnit("nJy", 1.0)
        # Headers in capitals write MJY for millijansky as well; nobody maps the sky in megajansky per beam.
        return PixelUnit("Jy", _PREFIX[match["prefix"].lower()])
    return PixelUnit("count", 1.0) if text.strip().upper().replace(" ", "") in _COUNTS else None


def convert(value: float, unit: str, target: str) -> float:
    """Return a value in `unit` in `target`; an empty unit means that it is in it already.

    Wavelengths become frequencies (in vacuum). Raises ValueError when the units do not fit each other.
    """
    if not unit.strip() or unit == target:
        return value
    source: Any = units.Unit(_SPELLINGS.get(unit.strip().upper(), unit.strip()))
    return float(source.to(target, value, equivalencies=units.spectral()))
