"""Fluxes in the unit that a viewer chose: part of the address, and remembered by the browser for the pages after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from trapline.common.store.units import JANSKY

CHOICES = ("Jy", "mJy", "uJy")
COOKIE = "trapline_unit"
FLUXES = frozenset({
    "flux", "err", "noise", "flux_int", "flux_int_err", "flux_peak", "flux_peak_err", "flux_mean",
    "flux_mean_weighted", "flux_std", "flux_min", "flux_max",
    # of what the finder's rules saw
    "limit_low", "limit_high", "mean", "mean_err", "std", "brightest", "brightest_err", "missed_limit",
})  # fmt: skip


def unit_of(request: Request) -> str | None:
    """Return the unit that a viewer chose, by the address or else before; None for the one of the images.

    Raises
    ------
    ValueError
        When the address names another.
    """
    asked = request.query_params.get("unit", "")
    if asked and asked not in CHOICES:
        raise ValueError(f"unit = {asked!r}: choose {', '.join(CHOICES)}, or leave it out")
    remembered = request.cookies.get(COOKIE, "") if "unit" not in request.query_params else asked
    return remembered if remembered in CHOICES else None


def factor(unit: str | None, wanted: str | None) -> float:
    """Return by what to multiply values in a unit; 1 where nothing is wanted, or it is no flux density (count)."""
    if wanted is None or unit is None or unit not in JANSKY or unit == wanted:
        return 1.0
    return JANSKY[unit] / JANSKY[wanted]


def converted(row: Mapping[str, Any], wanted: str | None) -> dict[str, Any]:
    """Return a row, or columns, with all fluxes and the ``unit`` as wanted; other units than of flux density stay.

    So are the values that a rule saw, in a row's ``reason``.
    """
    by = factor(row.get("unit"), wanted)
    if by == 1.0:
        return dict(row)
    more = {"reason": _reason(row["reason"], by)} if isinstance(row.get("reason"), Mapping) else {}
    return {**row, **_fluxes(row, by), **more, "unit": wanted}


def all_converted(rows: Iterable[Mapping[str, Any]], wanted: str | None) -> list[dict[str, Any]]:
    """Return rows as `converted` does."""
    return [converted(row, wanted) for row in rows]


def _reason(reason: Mapping[str, Any], by: float) -> dict[str, Any]:
    """Return why an event was announced with the fluxes that its rule saw multiplied."""
    rule = reason.get("rule") or {}
    return {**reason, "rule": {**rule, **_fluxes(rule, by)}}


def _fluxes(row: Mapping[str, Any], by: float) -> dict[str, Any]:
    return {name: _times(row[name], by) for name in FLUXES & row.keys()}


def _times(value: Any, by: float) -> Any:
    if isinstance(value, list):
        return [_times(one, by) for one in value]
    return value if value is None else value * by
