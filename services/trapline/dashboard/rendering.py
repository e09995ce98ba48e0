"""From values to HTML: templates, and how numbers, times and positions are written."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Pages:
    """Renders templates; values are escaped unless they say that they are HTML."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "count": count,
            "size": size,
            "seconds": seconds,
            "clock": clock,
            "iso": iso,
            "sig": significant,
            "ra": right_ascension,
            "dec": declination,
            "spark": sparkline,
            "words": lambda name: str(name).replace("_", " "),
        }
        self._environment.globals |= {"with_query": with_query}

    def render(self, name: str, /, *, fragment: bool = False, **values: Any) -> str:
        """Return a page, or with `fragment` only its block ``live``."""
        layout = "fragment.html" if fragment else "base.html"
        return self._environment.get_template(name).render(values, layout=layout)


def count(number: float | None) -> str:
    """Return a number of things in few characters: 950, 12.3k, 4.56M."""
    if number is None or not math.isfinite(number):
        return "–"
    for scale, letter in _PREFIXES:
        if abs(number) >= 10 * scale or (abs(number) >= scale > 1e3):
            return f"{number / scale:.3g}{letter}"
    return f"{number:.0f}" if number == int(number) or abs(number) >= 100 else f"{number:.2g}"


def size(number: float) -> str:
    """Return a number of bytes with a unit of powers of ten."""
    for scale, letter in _PREFIXES:
        if number >= scale:
            return f"{number / scale:.3g} {letter}B"
    return f"{number:.0f} B"


def seconds(number: float | None) -> str:
    """Return a duration in the unit that suits it: 0.4 s, 12 s, 3 min, 5 h, 2 d."""
    if number is None:
        return "–"
    number = max(0.0, number)
    for limit, unit, scale in ((90.0, "s", 1.0), (5400.0, "min", 60.0), (172800.0, "h", 3600.0)):
        if number < limit:
            return f"{number / scale:.1f} {unit}" if number < 1 else f"{number / scale:.0f} {unit}"
    return f"{number / 86400:.0f} d"


def significant(number: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits; a dash for what was not measured."""
    if number is None or not math.isfinite(number):
        return "–"
    return f"{number:.{digits}g}"


def clock(when: Any, digits: int = 0) -> str:
    """Return date and time of day, UTC, of us since 1970-01-01 or of an aware datetime."""
    if when is None:
        return "–"
    t_us = when if isinstance(when, int) else as_us(when)
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(t_us // 1_000_000))
    return f"{text}.{t_us % 1_000_000 // 10 ** (6 - digits):0{digits}d}" if digits else text


def iso(when: Any) -> str:
    """Return a time in ISO 8601 for machines."""
    return "" if when is None else clock(when, 6).replace(" ", "T") + "Z"


def right_ascension(degrees: float, digits: int = 2) -> str:
    """Return a right ascension as hours, minutes and seconds."""
    scale = 10**digits
    total = round(degrees / 15 * 3600 * scale) % (86400 * scale)
    hours, rest = divmod(total, 3600 * scale)
    minutes, parts = divmod(rest, 60 * scale)
    return f"{hours:02d}:{minutes:02d}:{parts / scale:0{2 + bool(digits) + digits}.{digits}f}"


def declination(degrees: float, digits: int = 1) -> str:
    """Return a declination as degrees, minutes and seconds of arc."""
    scale = 10**digits
    whole, rest = divmod(round(abs(degrees) * 3600 * scale), 3600 * scale)
    minutes, parts = divmod(rest, 60 * scale)
    sign = "-" if degrees < 0 else "+"
    return f"{sign}{whole:02d}:{minutes:02d}:{parts / scale:0{2 + bool(digits) + digits}.{digits}f}"


def sparkline(values: Sequence[float], width: int = 120, height: int = 26) -> str:
    """Return the points of an SVG polyline through some values; those not measured are left out."""
    found = [(i, v) for i, v in enumerate(values) if math.isfinite(v)]
    if not found:
        return ""
    low, high = min(v for _, v in found), max(v for _, v in found)
    span, steps = (high - low) or 1.0, max(1, len(values) - 1)
    flat = high == low
    return " ".join(
        f"{2 + i / steps * (width - 4):.1f},{height / 2 if flat else 2 + (high - v) / span * (height - 4):.1f}"
        for i, v in found
    )


def as_us(when: datetime) -> int:
    """Return an aware time as us since 1970-01-01 UTC."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def with_query(query: Any, **changes: Any) -> str:
    """Return a query string with some parameters changed; None removes one. What is given twice stays so."""
    kept = [(key, value) for key, value in query.multi_items() if value != "" and key not in changes]
    return "?" + urlencode([*kept, *((key, value) for key, value in changes.items() if value is not None)])
