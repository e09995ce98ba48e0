"""The sources so bright that they spoil low-frequency images from far away: the A-team, the Sun and Jupiter."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from astropy.coordinates import get_body, solar_system_ephemeris
from astropy.time import Time

import trapline.common.offline  # noqa: F401  no downloads
from trapline.common.sky import separation_deg
from trapline.image_ingest.cards import quiet
from trapline.image_ingest.times import SECOND_US

# ICRS degrees, to an arcminute (NED): what matters is whether they are ten degrees away.
FIXED = {
    "CasA": (350.858, 58.800),
    "CygA": (299.868, 40.734),
    "TauA": (83.633, 22.014),
    "HerA": (252.784, 4.992),
    "VirA": (187.706, 12.391),
}
MOVING = ("Sun", "Jupiter")
NAMES = (*FIXED, *MOVING)

_HOUR_US = 3600 * SECOND_US
# TDB runs ahead of UTC by this much since 2017; a minute more or less moves the Sun by 2.5 arcsec.
_TDB_AHEAD_S = 69.2


def position_of(name: str, t_us: int) -> tuple[float, float]:
    """Return (ra_deg, dec_deg), ICRS, of one of `NAMES` as seen from the Earth's centre, to a few arcminutes.

    Parameters
    ----------
    t_us
        Microseconds since 1970-01-01 UTC.
    """
    if name in FIXED:
        return FIXED[name]
    return _moving(name, round(t_us / _HOUR_US))


@lru_cache(maxsize=256)
def _moving(name: str, hour: int) -> tuple[float, float]:
    """Return where a body is at a full hour: in half an hour the Sun moves by 1.2 arcmin."""
    # In TDB from the start, with the ephemeris that astropy brings along: nothing to look up, nothing to download.
    with quiet(), solar_system_ephemeris.set("builtin"):
        time: Any = Time(40_587 + hour / 24, _TDB_AHEAD_S / 86_400, format="mjd", scale="tdb")
        body: Any = get_body(name, time)
    # Directions seen from the Earth: aberration, 20 arcsec, is all that they differ by from ICRS.
    return float(body.ra.deg), float(body.dec.deg)


def separations_deg(names: tuple[str, ...], ra_deg: float, dec_deg: float, t_us: int) -> dict[str, float]:
    """Return the distance of each of these sources from a position, in degrees."""
    return {name: float(separation_deg(ra_deg, dec_deg, *position_of(name, t_us))) for name in names}
