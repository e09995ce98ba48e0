from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.time import Time

from ingest_inputs import header, settings
from trapline.image_ingest.cards import Cards
from trapline.image_ingest.times import TimeError, from_mjd, from_year, parse_date, to_utc_us
from trapline.image_ingest.timing import Timing, read_timing


def us(text: str, scale: str = "utc") -> int:
    """Microseconds since 1970 by numpy, for readings in UTC; by astropy for the rest."""
    if scale == "utc":
        return int(np.datetime64(text, "us").astype(np.int64))
    reading: Any = Time(text, scale=scale, precision=6)
    return int(np.datetime64(str(reading.utc.isot), "us").astype(np.int64))


def timing(**cards: Any) -> tuple[Timing, Cards]:
    made = Cards(header((4, 5), **{"EXPTIME": None, "DATE_OBS": None} | cards))
    return read_timing(made, settings().named("generic-radio")), made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012-04-29T17:19:23.001599", "2012-04-29T17:19:23.001599"),
        ("2012-04-29T17:19:23.0015994", "2012-04-29T17:19:23.001599"),
        ("2012-04-29 17:19:23", "2012-04-29T17:19:23"),
        ("2012-04-29T17:19:23Z", "2012-04-29T17:19:23"),
        ("2012-04-29T17:19", "2012-04-29T17:19:00"),
        ("2012-04-29T17:19:23+02:00", "2012-04-29T15:19:23"),
        ("2012-04-29T00:30:00+0200", "2012-04-28T22:30:00"),
        ("2012-4-9", "2012-04-09T00:00:00"),
        ("2012/04/29", "2012-04-29T00:00:00"),
        ("20120429", "2012-04-29T00:00:00"),
        ("29/04/98", "1998-04-29T00:00:00"),
        ("29/04/2012 01:02:03", "2012-04-29T01:02:03"),
        ("1999-12-31T23:59:59.9999999", "2000-01-01T00:00:00"),
        ("1969-12-31T23:59:59.5", "1969-12-31T23:59:59.5"),
        ("  2012-04-29T17:19:23.5  ", "2012-04-29T17:19:23.5"),
        ("2016-12-31T23:59:60.25", "2017-01-01T00:00:00.25"),
    ],
)
def test_dates_in_their_many_forms(text: str, expected: str) -> None:
    assert to_utc_us(parse_date(text)) == us(expected)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2012-13-01", "2012-02-30", "2012-04-29T25:00:00", "2012-04-29T17:60:00", "2012-04-29T17:19:61",
     "9999-01-01", "0001-01-01", "nan", "inf", "1e300", "12:13:14", "2012-04-29T", "31/02/99"],
)  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(TimeError):
        parse_date(text)


@pytest.mark.parametrize("scale", ["tai", "tt", "tdb", "tcg", "tcb"])
@pytest.mark.parametrize("text", ["1985-03-01T12:00:00.000001", "2016-12-31T23:59:59.5", "2020-06-01T00:00:00"])
def test_other_time_scales_are_converted_to_utc(scale: str, text: str) -> None:
    assert abs(to_utc_us(parse_date(text), scale) - us(text, scale)) <= 1


def test_a_leap_second_shares_the_number_of_the_next() -> None:
    # 2012-06-30T23:59:60.5 UTC: TAI was 34 s ahead before it.
    assert to_utc_us(parse_date("2012-07-01T00:00:34.5"), "tai") == us("2012-07-01T00:00:00.5")


def test_tai_is_37_seconds_ahead_since_2017_and_gps_18() -> None:
    reading = parse_date("2020-06-01T12:00:37")
    assert to_utc_us(reading, "tai") == us("2020-06-01T12:00:00")
    assert to_utc_us(parse_date("2020-06-01T12:00:18"), "gps") == us("2020-06-01T12:00:00")


def test_text_that_says_utc_is_utc_whatever_timesys_says() -> None:
    found, _ = timing(DATE_OBS="2020-06-01T12:00:00Z", TIMESYS="TAI")
    assert found.start is not None
    assert found.start.value == us("2020-06-01T12:00:00")


def test_numbers_are_decimal_years_or_julian_dates() -> None:
    assert to_utc_us(from_year(1995.5)) == us("1995-07-02T12:00:00")
    assert to_utc_us(from_mjd(59128.5)) == us("2020-10-06T12:00:00")
    assert to_utc_us(from_mjd(2459129.25)) == us("2020-10-06T18:00:00")
    assert to_utc_us(parse_date("1995.5")) == us("1995-07-02T12:00:00")
    assert to_utc_us(parse_date("59128.5")) == us("2020-10-06T12:00:00")


START = "2020-06-01T12:00:00"


@pytest.mark.parametrize(
    ("cards", "start", "key"),
    [
        ({"DATE_OBS": "2020-06-01T12:00:00"}, START, "DATE-OBS"),
        ({"DATE_OBS": "2020-06-01", "TIME_OBS": "12:00:00"}, START, "DATE-OBS, TIME-OBS"),
        ({"DATE_OBS": "01/06/20", "TIME_OBS": "12:00:00"}, "1920-06-01T12:00:00", "DATE-OBS, TIME-OBS"),
        ({"DATE_OBS": "2020-06-01", "MJD_OBS": 59001.5}, START, "MJD-OBS"),
        ({"DATE_OBS": "2020-06-01", "MJD_OBS": 0.0}, "2020-06-01T00:00:00", "DATE-OBS"),
        ({"DATE_OBS": "2020-06-01"}, "2020-06-01T00:00:00", "DATE-OBS"),
        ({"DATE_OBS": "2020-06-02", "DATE_BEG": START}, START, "DATE-BEG"),
        ({"MJD_OBS": 59001.5}, START, "MJD-OBS"),
        ({"MJD_BEG": 59001.5, "MJD_OBS": 59001.6}, START, "MJD-BEG"),
        ({"OBSMJD": "59001.5"}, START, "OBSMJD"),
        ({"DATE_OBS": "2020-06-01T12:00:37", "TIMESYS": "TAI"}, START, "DATE-OBS"),
        ({"MJD_OBS": 59001.5 + 37 / 86400, "TIMESYS": "tai"}, START, "MJD-OBS"),
        ({"DATE_OBS": START, "TIMESYS": "UT1"}, START, "DATE-OBS"),
        ({"DATE_OBS": START, "TIMESYS": "UTC(NIST)"}, START, "DATE-OBS"),
        ({"DATE_OBS": 2020.0}, "2020-01-01T00:00:00", "DATE-OBS"),
    ],
)
def test_the_start_is_found_wherever_it_stands(cards: dict[str, Any], start: str, key: str) -> None:
    found, made = timing(**cards)
    assert found.start is not None
    assert found.start.key == key
    assert abs(found.start.value - us(start)) <= 1
    assert made.findings.faults == []


def test_a_julian_epoch_is_that_of_astropy() -> None:
    found, _ = timing(JEPOCH=2012.25)
    assert found.start is not None
    expected: Any = Time(2012.25, format="jyear", scale="tdb", precision=6)
    assert abs(found.start.value - us(str(expected.utc.isot))) <= 1


@pytest.mark.parametrize(
    ("cards", "seconds", "key"),
    [
        ({"EXPTIME": 30.0}, 30.0, "EXPTIME"),
        ({"EXPTIME": "30.5"}, 30.5, "EXPTIME"),
        ({"EXPOSURE": 12, "TAU_TIME": 5}, 12.0, "EXPOSURE"),
        ({"DURATION": 900.0, "DATE_END": "2020-06-01T13:00:00"}, 900.0, "DURATION"),
        ({"END_UTC": "2020-06-01T12:00:10.5"}, 10.5, "END_UTC"),
        ({"END_UTC": "12:00:10.5"}, 10.5, "END_UTC"),
        ({"END_UTC": "2020-06-01T12:00:10", "TIMESYS": "UTC"}, 10.0, "END_UTC"),
        ({"DATE_END": "2020-06-02T00:00:00"}, 43200.0, "DATE-END"),
        ({"MJD_END": 59001.5 + 1 / 86400}, 1.0, "MJD-END"),
        ({"TAU_TIME": 8.0}, 8.0, "TAU_TIME"),
    ],
)
def test_the_exposure_is_found_wherever_it_stands(cards: dict[str, Any], seconds: float, key: str) -> None:
    found, made = timing(DATE_OBS=START, **cards)
    assert found.exposure.key == key
    assert found.exposure.value == pytest.approx(seconds, abs=2e-6)
    assert made.findings.faults == []


def test_an_exposure_over_a_leap_second_is_of_civil_time() -> None:
    found, _ = timing(DATE_OBS="2016-12-31T23:59:59", END_UTC="2017-01-01T00:00:01")
    assert found.exposure.value == 2.0


def test_without_an_exposure_it_is_zero_and_flagged() -> None:
    found, made = timing(DATE_OBS=START)
    assert found.exposure.value == 0.0
    assert made.findings.flags == ["exposure_missing"]
    assert made.findings.faults == []
    for key in ("END_UTC", "DATE-END", "EXPTIME", "EXPOSURE", "DURATION", "TAU_TIME"):
        assert key in made.findings.gaps[0]


@pytest.mark.parametrize(
    ("cards", "named"),
    [
        ({}, "DATE-OBS"),
        ({"DATE_OBS": "soon"}, "DATE-OBS: 'soon' is no date"),
        ({"DATE_OBS": START, "TIMESYS": "LOCAL"}, "TIMESYS is 'LOCAL'"),
        ({"DATE_OBS": START, "EXPTIME": -1.0}, "EXPTIME is -1.0 s"),
        ({"DATE_OBS": START, "EXPTIME": "long"}, "EXPTIME is 'long'; expected a number"),
        ({"DATE_OBS": START, "EXPTIME": "nan"}, "EXPTIME is nan"),
        ({"DATE_OBS": START, "DATE_END": "2019-06-01"}, "DATE-END is -31665600.0 s after DATE-OBS"),
        ({"MJD_OBS": 1e9}, "MJD-OBS"),
    ],
)
def test_bad_times_are_named(cards: dict[str, Any], named: str) -> None:
    _, made = timing(**cards)
    assert any(named in fault for fault in made.findings.faults), made.findings
