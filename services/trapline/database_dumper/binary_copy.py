"""Rows as PostgreSQL's binary COPY takes them, made from whole columns at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.store.bins import POSTGRES_EPOCH_US
from trapline.schemas.columns import SchemaError

Column = npt.NDArray[Any]

Field = Column | bytes | None
"""A column of numbers (n,), a column of ids (n, 16), the same bytes in each row, or NULL in each row."""

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

MIN_T_US = -62_135_596_800_000_000
"""0001-01-01 UTC: the earliest time that every client of the database can read"""
MAX_T_US = 253_402_300_799_999_999
"""9999-12-31 UTC, its last microsecond"""


def encode_rows(fields: Mapping[str, Field]) -> bytes:
    """Return rows without header and trailer: for each the number of fields, then the length and bytes of each.

    Parameters
    ----------
    fields
        By column, in the order in which COPY names them; at least one is an array, and all arrays are equally long.
        Their numbers have the width of the column's type.
    """
    count = next(len(field) for field in fields.values() if isinstance(field, np.ndarray))
    layout: list[tuple[str, str]] = [("fields in row", ">i2")]
    for name, field in fields.items():
        layout.append((f"{name} length", ">i4"))
        if width := _width(field):
            layout.append((name, _format(field) or f"V{width}"))
    rows = np.empty(count, np.dtype(layout))
    rows["fields in row"] = len(fields)
    for name, field in fields.items():
        rows[f"{name} length"] = -1 if field is None else _width(field)
        if isinstance(field, bytes) and field:
            rows[name] = np.void(field)
        elif isinstance(field, np.ndarray):
            rows[name] = field if field.ndim == 1 else np.ascontiguousarray(field).view("V16")[:, 0]
    return rows.tobytes()


def timestamps(t_us: Column, what: str) -> Column:
    """Return times since 1970 as the server counts them, or raise `SchemaError` when it cannot."""
    if len(t_us) and (t_us.min() < MIN_T_US or t_us.max() > MAX_T_US):
        raise SchemaError(f"{what} lies outside the years 1 to 9999")
    return t_us.astype(np.int64) - POSTGRES_EPOCH_US


def _width(field: Field) -> int:
    if field is None:
        return 0
    if isinstance(field, bytes):
        return len(field)
    return field.dtype.itemsize * (field.shape[1] if field.ndim == 2 else 1)


def _format(field: Field) -> str | None:
    return f">{field.dtype.str[1:]}" if isinstance(field, np.ndarray) and field.ndim == 1 else None
