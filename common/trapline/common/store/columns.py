"""Rows as numpy columns, by binary COPY: three times as fast as row by row, for columns of fixed width without NULL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import POSTGRES_EPOCH_US

Array = npt.NDArray[Any]
Columns = Mapping[str, Array]

_HEADER_BYTES = 19
TRAILER = b"\xff\xff"
TYPES: Mapping[str, str] = MappingProxyType(
    {"id": "V16", "t": ">i8", "f8": ">f8", "f4": ">f4", "i8": ">i8", "i4": ">i4", "i2": ">i2"}
)
"""How the binary COPY writes values of a type."""


async def read_columns(con: Connection, types: Mapping[str, str], query: str, *values: Any) -> dict[str, Array]:
    """Return the rows of a query as one array per column.

    Parameters
    ----------
    con
        A connection.
    types
        By column, in the order of the query: ``id`` (a UUID, becomes (n, 16) bytes), ``t`` (a time, becomes int64
        microseconds since 1970-01-01 UTC), ``f8``, ``f4``, ``i8``, ``i4`` or ``i2``.
    query, values
        The statement, and what its ``$1`` and so on stand for.

    Raises
    ------
    ValueError
        When a column is NULL somewhere or not of its type, naming it.
    """
    data = bytearray()

    async def keep(piece: bytes) -> None:
        data.extend(piece)

    await con.copy_from_query(query, *values, output=keep, format="binary")
    return decode_columns(types, data)


def decode_columns(types: Mapping[str, str], data: bytes | bytearray) -> dict[str, Array]:
    """Return the columns of a binary COPY, header and trailer included."""
    layout: list[tuple[str, str]] = [("fields in row", ">i2")]
    for name, kind in types.items():
        layout += [(f"{name} length", ">i4"), (name, TYPES[kind])]
    row = np.dtype(layout)
    body = len(data) - _HEADER_BYTES - len(TRAILER)
    rows = np.frombuffer(data, row, body // row.itemsize, _HEADER_BYTES)
    for name in types:
        if (rows[f"{name} length"] != row[name].itemsize).any():
            raise ValueError(f"column {name} is NULL somewhere, or is not of type {types[name]}")
    if body % row.itemsize:
        raise ValueError(f"{body} bytes are no rows of {row.itemsize} bytes: another number of columns")
    return {name: native(rows[name], kind) for name, kind in types.items()}


def joined(tables: Sequence[Columns]) -> dict[str, Array]:
    """Return tables that have the same columns, one below the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def in_order(table: Columns, order: Array) -> dict[str, Array]:
    """Return some rows of a table: `order` is their numbers, or a mask."""
    return {name: column[order] for name, column in table.items()}


def text_ids(ids: Array) -> npt.NDArray[np.str_]:
    """Return the usual text form of (n, 16) ids, with hyphens."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    halves = np.stack([ids >> 4, ids & 15], axis=-1).reshape(len(ids), 32)
    text = np.full((len(ids), 36), ord("-"), np.uint8)
    text[:, [i for i in range(36) if i not in (8, 13, 18, 23)]] = digits[halves]
    return text.view("S36")[:, 0].astype("U36")


def native(column: Array, kind: str) -> Array:
    """Return values of a type as numpy has them: ids as (n, 16) bytes, times since 1970."""
    if kind == "id":
        return np.ascontiguousarray(column).view(np.uint8).reshape(-1, 16)
    values = column.astype(column.dtype.newbyteorder("="))
    return values + POSTGRES_EPOCH_US if kind == "t" else values
