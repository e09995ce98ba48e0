"""When an image was taken: the many dialects of dates in FITS headers, to microseconds since 1970 UTC."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any, NamedTuple

from astropy.time import Time

import trapline.common.offline  # noqa: F401  no downloads

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MJD_1970 = 40_587
GPS_BEHIND_TAI_US = 19 * SECOND_US

SCALES = {
    "UTC": "utc", "UT": "utc", "GMT": "utc", "Z": "utc", "UT1": "utc", "UT0": "utc", "UT2": "utc",
    "TAI": "tai", "IAT": "tai", "GPS": "gps", "TT": "tt", "TDT": "tt", "ET": "tt", "TDB": "tdb", "TCB": "tcb",
    "TCG": "tcg",
}  # fmt: skip
"""TIMESYS to the scale in which we read it. UT1 is within 0.9 s of UTC and is read as UTC."""

_EPOCH = dt.date(1970, 1, 1).toordinal()
_YEARS = range(1800, 2201)
_CLOCK = r"(?P<h>\d{1,2}):(?P<mi>\d{2})(?::(?P<s>\d{1,2}(?:\.\d*)?))?\s*(?P<zone>Z|UTC?|[+-]\d{2}:?\d{2})?"
_DATES = (
    re.compile(rf"(?P<y>\d{{4}})-(?P<mo>\d{{1,2}})-(?P<d>\d{{1,2}})(?:[T ]\s*(?P<clock>{_CLOCK}))?", re.IGNORECASE),
    re.compile(rf"(?P<y>\d{{4}})[/.:](?P<mo>\d{{2}})[/.:](?P<d>\d{{2}})(?:[T ]\s*(?P<clock>{_CLOCK}))?", re.IGNORECASE),
    re.compile(r"(?P<y>\d{4})(?P<mo>\d{2})(?P<d>\d{2})(?P<clock>)(?P<zone>)"),
    re.compile(rf"(?P<d>\d{{1,2}})/(?P<mo>\d{{1,2}})/(?P<y>\d{{4}}|\d{{2}})(?:[T ]\s*(?P<clock>{_CLOCK}))?"),
)


class TimeError(ValueError):
    """A date or time that we cannot read. The text says what was found and what would be right."""


class Moment(NamedTuple):
    """A reading of a calendar and a clock, in whatever scale the header means."""

    day: int
    """days since 1970-01-01"""
    day_us: int
    """microseconds since midnight; up to 86401 s in a leap second"""
    has_clock: bool
    """false when only the date was given: 00:00 is meant"""
    is_utc: bool = False
    """true when the text itself says that it is UTC, or gives an offset from it"""


def parse_date(text: str) -> Moment:
    """Return the reading of a date, with or without a time.

    Understood are ISO dates with a T or a blank, a Z or an offset; 2012/04/29; 20120429; 29/04/12, which the FITS
    standard places in the 20th century; and numbers: a decimal year, a modified or a full Julian date.

    Raises
    ------
    TimeError
        When it is none of these, or a day or an hour that does not exist.
    """
    text = text.strip()
    match = next((m for pattern in _DATES if (m := pattern.fullmatch(text))), None)
    if match is None:
        return _from_number(text)
    year = int(match["y"]) + (1900 if len(match["y"]) == 2 else 0)
    try:
        day = dt.date(year, int(match["mo"]), int(match["d"])).toordinal() - _EPOCH
    except ValueError as error:
        raise TimeError(f"{text!r} is no date: {error}") from None
    _check_year(year, text)
    if not match["clock"]:
        return Moment(day, 0, has_clock=False)
    return Moment(day, *parse_clock(match["clock"]))


def parse_clock(text: str) -> tuple[int, bool, bool]:
    """Return microseconds since midnight, true, and whether the text says UTC; raise `TimeError` as `parse_date`."""
    match = re.fullmatch(_CLOCK, text.strip(), re.IGNORECASE)
    if match is None:
        raise TimeError(f"{text!r} is no time; expected hh:mm:ss.sss")
    hour, minute, second = int(match["h"]), int(match["mi"]), float(match["s"] or 0)
    if hour > 23 or minute > 59 or second >= 61:
        raise TimeError(f"{text!r} is no time of day")
    zone = match["zone"] or ""
    offset = 0
    if zone[:1] in {"+", "-"}:
        digits = zone[1:].replace(":", "")
        offset = (int(digits[:2]) * 60 + int(digits[2:])) * 60 * SECOND_US * (1 if zone[0] == "+" else -1)
    return (hour * 60 + minute) * 60 * SECOND_US + round(second * SECOND_US) - offset, True, bool(zone)


def from_mjd(mjd: float) -> Moment:
    """Return the reading of a modified Julian date; a full Julian date is recognised by its size."""
    if not math.isfinite(mjd):
        raise TimeError(f"{mjd} is no date")
    if mjd > 2_000_000:
        mjd -= 2_400_000.5
    day = math.floor(mjd)
    _check_year(1858.88 + mjd / 365.2425, str(mjd))
    return Moment(day - MJD_1970, round((mjd - day) * DAY_US), has_clock=True)


def from_year(year: float) -> Moment:
    """Return the reading of a decimal year, as Westerbork wrote it: 1995.5 is the middle of 1995."""
    _check_year(year, str(year))
    whole = math.floor(year)
    start = dt.date(whole, 1, 1).toordinal()
    days = (year - whole) * (dt.date(whole + 1, 1, 1).toordinal() - start)
    return Moment(start - _EPOCH + math.floor(days), round(days % 1 * DAY_US), has_clock=True)


def to_utc_us(moment: Moment, scale: str = "utc") -> int:
    """Return microseconds since 1970-01-01 UTC of a reading in a scale of `SCALES`.

    A leap second has no number of its own in this count: it shares that of the second after it.
    """
    day, day_us = moment.day, moment.day_us
    if scale == "utc" or moment.is_utc:
        return day * DAY_US + day_us
    if scale == "gps":
        scale, day_us = "tai", day_us + GPS_BEHIND_TAI_US
    reading: Any = Time(day + MJD_1970, day_us / DAY_US, format="mjd", scale=scale)
    utc = reading.utc.ymdhms
    date = dt.date(int(utc["year"]), int(utc["month"]), int(utc["day"])).toordinal() - _EPOCH
    seconds = (int(utc["hour"]) * 60 + int(utc["minute"])) * 60
    return date * DAY_US + seconds * SECOND_US + round(float(utc["second"]) * SECOND_US)


def _from_number(text: str) -> Moment:
    try:
        number = float(text)
    except ValueError:
        raise TimeError(f"{text!r} is no date; expected yyyy-mm-ddThh:mm:ss.sss") from None
    return from_year(number) if number < 3000 else from_mjd(number)


def _check_year(year: float, text: str) -> None:
    if not _YEARS.start <= year < _YEARS.stop:
        raise TimeError(f"{text!r} is in the year {year:.0f}; expected {_YEARS.start} to {_YEARS.stop - 1}")
