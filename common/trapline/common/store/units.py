"""Units of flux density: what they are in Jy, here and in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

JANSKY: Mapping[str, float] = MappingProxyType({"Jy": 1.0, "mJy": 1e-3, "uJy": 1e-6, "nJy": 1e-9})


def in_jansky(expression: str, unit: str) -> str:
    """Return SQL for a flux density in Jy, of an expression and its unit; NULL where that is none (count)."""
    cases = " ".join(f"WHEN '{name}' THEN {scale!r}" for name, scale in JANSKY.items())
    return f"({expression} * CASE {unit} {cases} END)"


def as_jansky(value: float, unit: str | None) -> float:
    """Return a flux density in Jy; as it is without a unit."""
    return value if unit is None else value * JANSKY[unit]
