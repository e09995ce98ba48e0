"""From the query of an address to the filters of a list, with errors that say what would be right."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict
from uuid import UUID

from trapline.common.store.order import Order
from trapline.common.store.pages import Cone, Filters

_NUMBERS = ("v_min", "eta_min", "n_min", "flux_min", "flux_max", "significance_min")
_TEXTS = ("band", "kind", "alert_type", "role", "verdict")
_PARTS = re.compile(r"[:hmsd°′″'\"\s]+")
_UNITS = {"deg": 1.0, "°": 1.0, "arcmin": 1 / 60, "'": 1 / 60, "arcsec": 1 / 3600, '"': 1 / 3600, "": 1.0}


class Paging(TypedDict):
    """Which page of a list, as `trapline.common.store.pages.page` takes it."""

    before: UUID | None
    after: UUID | None
    order: Order | None


def paging_of(query: Mapping[str, str]) -> Paging:
    """Return the page that a query asks for.

    ``sort`` is a column, with - before it the largest first; ``before`` and ``after`` are the key of a row, and ``at``
    is its value in that column.

    Raises
    ------
    ValueError
        When a key is none.
    """
    column, at = query.get("sort", ""), query.get("at")
    order = Order(column.removeprefix("-"), column.startswith("-"), at) if column else None
    return {"before": _key(query, "before"), "after": _key(query, "after"), "order": order}


def filters_of(query: Mapping[str, str], dataset: str, unit: str | None = None) -> Filters:
    """Return the filters that a query asks for; fluxes are in a unit, or else in that of each row.

    Raises
    ------
    ValueError
        Naming the parameter and what would be right.
    """
    given: dict[str, Any] = {name: _number(name, query[name]) for name in _NUMBERS if query.get(name)}
    given |= {name: query[name] for name in _TEXTS if query.get(name)}
    given |= {name: parse_time(query[name]) for name in ("since", "until") if query.get(name)}
    rejected = {"yes": True, "no": False}.get(query.get("rejected", ""))
    own = _key(query, "object")
    return Filters(dataset=dataset, cone=cone_of(query), rejected=rejected, object=own, flux_unit=unit, **given)


def _key(query: Mapping[str, str], name: str) -> UUID | None:
    text = query.get(name)
    try:
        return UUID(text) if text else None
    except ValueError:
        raise ValueError(f"{name} = {text!r} is no id: follow the links of a page") from None


def cone_of(query: Mapping[str, str]) -> Cone | None:
    """Return the circle of ``position`` and ``radius``; None without a position."""
    text = query.get("position", "").strip()
    if not text:
        return None
    ra_deg, dec_deg = parse_position(text)
    return Cone(ra_deg, dec_deg, parse_angle(query.get("radius", "").strip() or "1 deg"))


def parse_position(text: str) -> tuple[float, float]:
    """Return (ra_deg, dec_deg) of ``350.85 58.815``, ``23:23:24 +58:48:54`` or ``23h23m24s +58d48m54s``.

    Raises
    ------
    ValueError
        With an example of each form.
    """
    try:
        left, right = _halves(text)
        ra, hours = _sexagesimal(left)
        dec, _ = _sexagesimal(right)
        ra_deg = ra * 15 if hours else ra
    except ValueError:
        raise ValueError(
            f"{text!r} is no position; write it as 350.85 58.815, 23:23:24 +58:48:54 or 23h23m24s +58d48m54s"
        ) from None
    if not (math.isfinite(ra_deg) and abs(dec) <= 90):
        raise ValueError(f"{text!r}: the declination lies between -90 and 90 degrees")
    return ra_deg % 360, dec


def _halves(text: str) -> tuple[str, str]:
    """Split at a comma, before a sign, or in the middle of 2 or 6 numbers."""
    text = text.strip().replace("−", "-")
    if "," in text:
        left, _, right = text.partition(",")
        return left, right
    if sign := re.search(r"(?<=[\d.smh\"])\s*([+-])", text[1:]):
        return text[: sign.start() + 1], text[sign.start() + 1 :]
    words = text.split()
    half = len(words) // 2
    if len(words) not in (2, 4, 6):
        raise ValueError(text)
    return " ".join(words[:half]), " ".join(words[half:])


def _sexagesimal(text: str) -> tuple[float, bool]:
    """Return a number of degrees or hours, and whether it was given in parts or with an h."""
    text = text.strip()
    sign = -1.0 if text.startswith("-") else 1.0
    parts = [part for part in _PARTS.split(text.lstrip("+-")) if part]
    if not 1 <= len(parts) <= 3:
        raise ValueError(text)
    numbers = [float(part) for part in parts]
    if any(not 0 <= part < 60 for part in numbers[1:]):
        raise ValueError(text)
    value = sum(number / 60**i for i, number in enumerate(numbers))
    return sign * value, len(parts) > 1 or "h" in text


def parse_angle(text: str) -> float:
    """Return degrees of ``2``, ``2 deg``, ``30 arcmin`` or ``10 arcsec``."""
    match = re.fullmatch(r"([\d.eE+-]+)\s*([a-z°'\"]*)", text)
    if match and match[2] in _UNITS:
        return _number("radius", match[1]) * _UNITS[match[2]]
    raise ValueError(f"{text!r} is no angle; write it as 2 deg, 30 arcmin or 10 arcsec")


def parse_time(text: str) -> datetime:
    """Return a UTC time of ISO form."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-01-31T23:59 (UTC)") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} = {text!r} is no number")
    return value
