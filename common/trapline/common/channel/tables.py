"""Columns of a message as an astropy table. Imported when one is asked for: astropy takes its time."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from astropy.table import Table

from trapline.common.channel.filters import field_of
from trapline.schemas.columns import Array, Arrays, array_to_ids
from trapline.schemas.header import Header
from trapline.schemas.registry import is_known, schema_named

_ID_BYTES = 16


def make_table(header: Header, arrays: Arrays, name: str = "") -> Any:
    """Return the columns of one table of a message; `meta` has the header's plain fields.

    Raises
    ------
    KeyError
        When the message has no such table, saying which it has.
    """
    tables = _tables(arrays)
    if not name and "" not in tables and len(tables) == 1:
        name = next(iter(tables))
    if name not in tables:
        known = ", ".join(repr(key) for key in tables) or "none"
        raise KeyError(f"{header.schema} has no table {name!r}; it has {known}")
    units, meaning = _described(header)
    made: Any = Table(meta=_meta(header))
    for key, column in tables[name].items():
        full = f"{name}.{key}" if name else key
        made[key] = _texts(column) if _is_ids(column) else column
        made[key].unit = units.get(full) or None
        made[key].description = meaning.get(full, "")
    return made


def _tables(arrays: Arrays) -> dict[str, dict[str, Array]]:
    """Return the arrays by prefix and plain name. What has two axes and holds no ids is an image, not a column."""
    tables: dict[str, dict[str, Array]] = {}
    for full, array in arrays.items():
        prefix, _, name = full.rpartition(".")
        if array.ndim == 1 or _is_ids(array):
            tables.setdefault(prefix, {})[name] = array
    return tables


def _is_ids(array: Array) -> bool:
    return array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == _ID_BYTES


def _texts(ids: Array) -> Array:
    return np.array([str(uuid.UUID(bytes=one)) for one in array_to_ids(ids)], dtype="U36")


def _described(header: Header) -> tuple[dict[str, str], dict[str, str]]:
    """Return units and meanings by array name. A flux has the unit of the image."""
    flux_unit = field_of(header, "unit") or getattr(field_of(header, "image"), "unit", None) or ""
    units, meanings = {}, {}
    schema = schema_named(header.schema) if is_known(header.schema) else None
    for table in schema.tables if schema else ():
        for column in table.columns:
            units[table.key(column)] = column.unit.replace("unit", flux_unit) if flux_unit else ""
            if "unit" not in column.unit:
                units[table.key(column)] = column.unit
            meanings[table.key(column)] = column.description
    return units, meanings


def _meta(header: Header) -> dict[str, Any]:
    fields = {name: getattr(header, name) for name in header.__struct_fields__}
    own = fields.pop("fields", {})
    return {k: v for k, v in {**fields, **own}.items() if isinstance(v, (str, int, float, bool)) and v != ""}
