"""Rows of the store as astropy tables: units, times as `Time`, ids as text, absent values masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table
from astropy.time import Time

import trapline.common.offline  # noqa: F401  imported for what it does
from trapline.common.store.export import plain_text

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Mapping[str, u.UnitBase] = {"_deg": u.deg, "_hz": u.Hz, "_s": u.s}
_FLUX_UNITS: Mapping[str, u.UnitBase] = {"Jy": u.Jy, "nJy": u.nJy, "count": u.count}
_BLANKS: Mapping[str, Any] = {"text": "", "time": _EPOCH, "integer": 0, "float": np.nan, "bool": False}
_DTYPES: Mapping[str, Any] = {"text": str, "integer": np.int64, "float": np.float64, "bool": bool}

ColumnKind = str
"""text, time, integer, float or bool"""


def kinds_of(fields: Mapping[str, Any]) -> dict[str, ColumnKind]:
    """Return the kinds of the fields of a struct from their annotations."""
    kinds = {"UUID": "text", "str": "text", "list[str]": "text", "datetime": "time", "float": "float", "int": "integer"}
    return {name: kinds.get(str(kind).removesuffix(" | None"), "bool") for name, kind in fields.items()}


def table_of(kinds: Mapping[str, ColumnKind], rows: Iterable[Iterable[Any]]) -> Any:
    """Return rows as a table.

    Parameters
    ----------
    kinds
        Kind by column. Its unit follows from the end of its name; fluxes have one where all rows share it.
    rows
        Values in that order; None is masked.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    values = dict(zip(kinds, columns, strict=True))
    table: Any = Table()
    for name, kind in kinds.items():
        table[name] = column_of(name, kind, values[name])
    units = {unit for unit in values.get("unit", ()) if unit is not None}
    shared = flux_unit(units.pop()) if len(units) == 1 else None
    for name in kinds:
        if name.startswith("flux_") or name == "noise":
            table[name].info.unit = shared
    return table


def column_of(name: str, kind: ColumnKind, values: Sequence[Any]) -> Any:
    """Return a column: a `Time`, or a `MaskedColumn` with its unit."""
    mask = np.array([value is None for value in values], bool)
    filled = [_BLANKS[kind] if value is None else value for value in values]
    if kind == "time":
        return time_of(np.array([_microseconds(value) for value in filled], np.int64), mask)
    data = [plain_text(value) for value in filled] if kind == "text" else filled
    unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), None)
    array = np.array(data, _DTYPES[kind])
    return MaskedColumn(array, mask=mask if mask.any() else False, unit=unit, name=name)


def time_of(t_us: np.ndarray[Any, np.dtype[np.int64]], mask: Any = None) -> Time:
    """Return times (UTC) from microseconds since 1970-01-01, exact to the microsecond."""
    # A Julian date counts fractions of a day, and a day with a leap second is longer: 43,200 s are not its half.
    days, day = np.unique(t_us // _DAY_US, return_inverse=True)
    starts, ends = (Time(d.astype("datetime64[D]"), format="datetime64", scale="utc") for d in (days, days + 1))
    length_s = np.rint((ends.tai - starts.tai).sec) if len(days) else np.ones(0)
    time = Time(starts.jd[day], t_us % _DAY_US / 1e6 / length_s[day], format="jd", scale="utc")
    time.format = "isot"
    time.precision = 6
    if mask is not None and mask.any():
        time[mask] = np.ma.masked
    return time


def flux_unit(name: str | None) -> u.UnitBase | None:
    """Return the unit of fluxes by its name in the messages; None when that is not known."""
    return _FLUX_UNITS.get(name or "")


def _microseconds(value: datetime) -> int:
    since = value - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
