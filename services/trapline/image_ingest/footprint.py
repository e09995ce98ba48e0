"""Where an image lies on the sky: its celestial cards, its centre in ICRS, its radius, and the size of its pixels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from astropy.io.fits import Header as FitsHeader

from trapline.common.sky import separation_deg
from trapline.common.wcs import SkyWcs, WcsError, parse_wcs, wcs_cards
from trapline.image_ingest.cards import Cards, Found, one_line

# Cards that place pixels on the sky. Times are not among them, so that images of one field share their cards.
_CELESTIAL = re.compile(
    r"(WCSAXES|NAXIS\d?|CTYPE\d|CRVAL\d|CRPIX\d|CDELT\d|CROTA\d|CUNIT\d|CD\d_\d|PC\d_\d|PC\d{6}|PV\d_\d+|PS\d_\d+|LONPOLE"
    r"|LATPOLE|RADESYSA?|RADECSYS|EQUINOX|EPOCH|RESTFRQ|RESTWAV|VELREF|SPECSYS|[AB]P?_(ORDER|DMAX|\d_\d)|WAT\d_\d{3})"
)
_NEEDED = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_LONGITUDE = re.compile(r"RA--|.LON|..LN", re.IGNORECASE)
_LATITUDE = re.compile(r"DEC-|.LAT|..LT", re.IGNORECASE)
# A whole turn in milliarcseconds, the smallest unit in use: beyond it the digits of a position are gone.
_LARGEST = 360 * 3600e3
_RAYS = 16
_STEPS = 64


@dataclass(frozen=True, slots=True)
class Footprint:
    """Where an image lies on the sky, ICRS degrees."""

    cards: str
    centre_ra_deg: float
    """of the centre of the array, not of the reference pixel"""
    centre_dec_deg: float
    radius_deg: float
    """of the circle about the centre that holds all pixels that are on the sky"""
    pixel_deg: float
    """side of a square of the area of the reference pixel"""


def read_footprint(cards: Cards, shape: tuple[int, int]) -> Footprint | None:
    """Return where an image lies; what is missing or bad in its WCS goes to the findings of the cards.

    Parameters
    ----------
    cards
        The header.
    shape
        (ny, nx) of the array.
    """
    if not _is_complete(cards):
        return None
    try:
        return _of_cards(_celestial(cards.header), shape)
    except WcsError as error:
        cards.findings.fault(f"the WCS is unusable: {one_line(error)}")
        return None


def _is_complete(cards: Cards) -> bool:
    """Note every missing key of the WCS: wcslib would put zeros and ones in their place."""
    findings, complete = cards.findings, True
    for key in _NEEDED:
        faults = len(findings.faults)
        found = cards.text(key) if key.startswith("CTYPE") else cards.finite(key)
        complete = complete and found is not None
        if found is None and len(findings.faults) == faults:
            findings.fault(f"{key} is missing")
        elif isinstance(found, Found) and isinstance(found.value, float) and abs(found.value) > _LARGEST:
            findings.fault(f"{key} is {found.value:g}; expected a position")
            complete = False
    for axis in (1, 2):
        if cards.finite(f"CDELT{axis}", f"CD{axis}_1", f"CD{axis}_2") is None:
            findings.fault(f"CDELT{axis} is missing, and so is CD{axis}_{axis}")
            complete = False
    first, second = cards.text("CTYPE1"), cards.text("CTYPE2")
    if first and second and _LATITUDE.match(first.value) and _LONGITUDE.match(second.value):
        findings.fault(f"CTYPE1 is {first.value!r} and CTYPE2 {second.value!r}; expected the longitude first")
        complete = False
    return complete


def _celestial(header: FitsHeader) -> str:
    try:
        return "".join(card.image for card in header.cards if _CELESTIAL.fullmatch(card.keyword))
    except Exception as error:  # noqa: BLE001  a card may hold anything: astropy's parser has no common error
        raise WcsError(one_line(error)) from None


@lru_cache(maxsize=64)
def _of_cards(text: str, shape: tuple[int, int]) -> Footprint:
    cards = wcs_cards(FitsHeader.fromstring(text))
    wcs = parse_wcs(cards)
    ny, nx = shape
    scale_x, scale_y = wcs.scale_deg()
    # The centre, then corners and middles of the edges, in one call: the overhead of the frame is paid once.
    x = np.array([(nx - 1) / 2, *np.repeat([-0.5, (nx - 1) / 2, nx - 0.5], 3)])
    y = np.array([(ny - 1) / 2, *np.tile([-0.5, (ny - 1) / 2, ny - 0.5], 3)])
    ra, dec = wcs.to_sky(x, y)
    if not (math.isfinite(ra[0]) and math.isfinite(dec[0]) and scale_x > 0 and scale_y > 0):
        raise WcsError("the centre of the image is not on the sky")
    centre_ra, centre_dec = float(ra[0]), float(dec[0])
    edges = separation_deg(centre_ra, centre_dec, ra[1:], dec[1:])
    whole = bool(np.isfinite(edges).all())
    radius = float(edges.max()) if whole else _horizon_deg(wcs, shape, centre_ra, centre_dec)
    return Footprint(cards, centre_ra, centre_dec, radius, math.sqrt(scale_x * scale_y))


def _horizon_deg(wcs: SkyWcs, shape: tuple[int, int], ra_deg: float, dec_deg: float) -> float:
    """Return the largest distance from the centre of a pixel that is on the sky, when the corners are not.

    Along rays from the centre the last pixel on the sky is narrowed down; towards the horizon of an orthographic
    projection a pixel spans degrees, so that the nearest whole pixel would not do.
    """
    ny, nx = shape
    angle = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    along_x, along_y = np.cos(angle)[:, None], np.sin(angle)[:, None]
    edge = 1 / np.maximum(np.abs(along_x) / (nx / 2), np.abs(along_y) / (ny / 2))
    low, high = np.zeros_like(edge), edge
    largest = 0.0
    for _ in range(3):
        reach = low + (high - low) * np.linspace(0, 1, _STEPS)
        ra, dec = wcs.to_sky((nx - 1) / 2 + reach * along_x, (ny - 1) / 2 + reach * along_y)
        on_sky = np.isfinite(ra) & np.isfinite(dec)
        distance = np.where(on_sky, separation_deg(ra_deg, dec_deg, ra, dec), 0.0)
        largest = max(largest, float(distance.max()))
        last = np.where(on_sky, np.arange(_STEPS), 0).max(axis=1)[:, None]
        low = np.take_along_axis(reach, last, axis=1)
        high = np.take_along_axis(reach, np.minimum(last + 1, _STEPS - 1), axis=1)
    return largest
