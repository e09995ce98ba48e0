"""Start and length of an exposure, from whichever header keys tell them."""

from __future__ import annotations

from dataclasses import dataclass

from trapline.image_ingest.cards import Cards, Found
from trapline.image_ingest.instruments import Instrument, Key, mapped
from trapline.image_ingest.times import (
    DAY_US,
    SCALES,
    SECOND_US,
    Moment,
    TimeError,
    from_mjd,
    parse_clock,
    parse_date,
    to_utc_us,
)

START_DATES = ("DATE-BEG", "DATE-OBS", "DATE_OBS")
START_CLOCKS = ("TIME-OBS", "TIME_OBS", "UTC-OBS", "UTSTART", "TIME-BEG", "UT")
START_MJDS = ("MJD-BEG", "MJD-OBS", "MJD_OBS", "OBSMJD", "MJD")
EXPOSURES = ("EXPTIME", "EXPOSURE", "XPOSURE", "DURATION")
END_DATES = ("END_UTC", "DATE-END", "DATE_END")
END_MJDS = ("MJD-END",)
LAST_EXPOSURES = ("TAU_TIME", "TELAPSE")

MAX_EXPOSURE_S = 366 * 86_400.0
MJD_J2000 = 51_544.5


@dataclass(frozen=True, slots=True)
class Timing:
    """When an image was taken. Fields are None where the header does not say, which the findings name."""

    start: Found[int] | None
    """microseconds since 1970-01-01 UTC"""
    exposure: Found[float]
    """seconds; 0 with an empty key when the header does not say"""


def read_timing(cards: Cards, instrument: Instrument) -> Timing:
    """Return start and length of the exposure; what is missing or bad goes to the findings of the cards."""
    scale = _scale(cards, instrument)
    faults = len(cards.findings.faults)
    start = _start(cards, instrument, scale)
    if start is None and len(cards.findings.faults) == faults:
        keys = ", ".join([*(key.key for key in instrument.keys.start), *START_DATES[:2], *START_MJDS[:2]])
        cards.findings.fault(f"the start of the observation is missing: none of {keys}")
    return Timing(start, _exposure(cards, instrument, scale, start))


def _scale(cards: Cards, instrument: Instrument) -> str:
    found = cards.text("TIMESYS")
    name = (found.value if found else instrument.defaults.timesys).upper().partition("(")[0].strip()
    if name not in SCALES:
        cards.findings.fault(f"TIMESYS is {name!r}; expected one of {', '.join(SCALES)}")
        return "utc"
    if name.startswith("UT") and name[2:].isdigit():
        cards.findings.flag(f"timesys_{name.lower()}_read_as_utc")
    return SCALES[name]


def _start(cards: Cards, instrument: Instrument, scale: str) -> Found[int] | None:
    for own in instrument.keys.start:
        if (found := _moment(cards, own.key)) is not None:
            return _in_utc(found, scale)
    for key in START_DATES:
        if (found := _moment(cards, key)) is None:
            continue
        if not found.value.has_clock:
            found = _with_clock(cards, found) or _mjd_of_day(cards, found.value.day) or found
            if not found.value.has_clock:
                cards.findings.flag("date_without_time")
        return _in_utc(found, scale)
    return _in_utc(_mjd(cards, START_MJDS) or _epoch(cards), scale)


def _in_utc(found: Found[Moment] | None, scale: str) -> Found[int] | None:
    if found is None:
        return None
    # A Julian epoch is in TDB whatever TIMESYS says (FITS 4.0, section 9.5).
    return Found(to_utc_us(found.value, "tdb" if found.key == "JEPOCH" else scale), found.key)


def _moment(cards: Cards, key: str) -> Found[Moment] | None:
    found = cards.text(key)
    if found is None:
        return None
    try:
        return Found(parse_date(found.value), key)
    except TimeError as error:
        cards.findings.fault(f"{key}: {error}")
        return None


def _with_clock(cards: Cards, date: Found[Moment]) -> Found[Moment] | None:
    found = cards.text(*START_CLOCKS)
    if found is None or ":" not in found.value:
        return None
    try:
        if "-" in found.value or "/" in found.value or "T" in found.value:
            return Found(parse_date(found.value), found.key)
        day_us, has_clock, is_utc = parse_clock(found.value)
    except TimeError as error:
        cards.findings.fault(f"{found.key}: {error}")
        return None
    return Found(Moment(date.value.day, day_us, has_clock=has_clock, is_utc=is_utc), f"{date.key}, {found.key}")


def _mjd(cards: Cards, keys: tuple[str, ...]) -> Found[Moment] | None:
    found = cards.finite(*keys)
    if found is None:
        return None
    try:
        return Found(from_mjd(found.value), found.key)
    except TimeError as error:
        cards.findings.fault(f"{found.key}: {error}")
        return None


def _mjd_of_day(cards: Cards, day: int) -> Found[Moment] | None:
    found = _mjd(cards, START_MJDS)
    if found is not None and abs(found.value.day - day) > 1:
        cards.findings.flag("mjd_differs_from_date")
        return None
    return found


def _epoch(cards: Cards) -> Found[Moment] | None:
    found = cards.finite("JEPOCH")
    if found is None:
        return None
    try:
        return Found(from_mjd(MJD_J2000 + (found.value - 2000.0) * 365.25), found.key)
    except TimeError as error:
        cards.findings.fault(f"{found.key}: {error}")
        return None


def _exposure(cards: Cards, instrument: Instrument, scale: str, start: Found[int] | None) -> Found[float]:
    found = (
        _length(cards, instrument.keys.exposure)
        or _until_end(cards, [key.key for key in instrument.keys.end], scale, start)
        or _length(cards, [Key(key=key) for key in EXPOSURES])
        or _until_end(cards, END_DATES + END_MJDS, scale, start)
        or _length(cards, [Key(key=key) for key in LAST_EXPOSURES])
    )
    if found is not None:
        return found
    keys = ", ".join([*END_DATES[:2], *EXPOSURES, LAST_EXPOSURES[0]])
    default = instrument.defaults.exposure_s
    if default is not None:
        cards.findings.flag("exposure_from_instrument")
        return Found(default, "")
    cards.findings.gap("exposure_missing", f"the length of the exposure is missing: none of {keys}")
    return Found(0.0, "")


def _length(cards: Cards, keys: list[Key]) -> Found[float] | None:
    for key in keys:
        found = mapped(cards, [key], "s")
        if found is not None and 0 <= found.value <= MAX_EXPOSURE_S:
            return found
        if found is not None:
            cards.findings.fault(f"{key.key} is {found.value} s; expected 0 to a year")
    return None


def _until_end(
    cards: Cards, keys: tuple[str, ...] | list[str], scale: str, start: Found[int] | None
) -> Found[float] | None:
    if start is None:
        return None
    for key in keys:
        end_us = _end_us(cards, key, "utc" if key == "END_UTC" else scale, start.value)
        if end_us is None:
            continue
        seconds = (end_us - start.value) / SECOND_US
        if 0 <= seconds <= MAX_EXPOSURE_S:
            return Found(seconds, key)
        cards.findings.fault(f"{key} is {seconds} s after {start.key}; expected 0 to a year")
    return None


def _end_us(cards: Cards, key: str, scale: str, start_us: int) -> int | None:
    found = cards.text(key)
    if found is None:
        return None
    try:
        if ":" in found.value and "-" not in found.value and "/" not in found.value:
            # A clock without a date: the first such time after the start.
            return start_us + (parse_clock(found.value)[0] - start_us) % DAY_US
        moment = parse_date(found.value)
    except TimeError as error:
        cards.findings.fault(f"{key}: {error}")
        return None
    return to_utc_us(moment, scale)
