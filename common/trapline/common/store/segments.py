"""Rows of `segment`: the points of an object and band as arrays, as the binary COPY writes and reads them.

Rows of equal length have the same layout in bytes, so that many of them are one structured array: neither way has a
statement per value.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import POSTGRES_EPOCH_US
from trapline.common.store.columns import TRAILER, TYPES, Array, native

ARRAYS: Mapping[str, str] = MappingProxyType(
    {
        "point": "id", "image": "id", "source": "id", "times": "t", "ra_deg": "f8", "dec_deg": "f8",
        "pos_err_ew_deg": "f8", "pos_err_ns_deg": "f8", "flux_peak": "f8", "flux_peak_err": "f8", "flux_int": "f8",
        "flux_int_err": "f8", "v": "f8", "eta": "f8", "snr": "f4", "deruiter": "f4", "flags": "i4", "n": "i4",
        "kind": "i2", "link": "i2",
    }
)  # fmt: skip
"""Columns of arrays, and the types of their elements."""

VISIBLE = "(segment.late OR NOT segment.t <@ (SELECT sealed FROM closing))"
"""of rows of `segment`: a condition of every reader"""
OPEN = "NOT point.t <@ (SELECT written FROM closing)"
"""of rows of `point`: a condition of every reader"""

_OIDS = {"id": 2950, "t": 1184, "f8": 701, "f4": 700, "i4": 23, "i2": 21}
_HEAD = (("ndim", ">i4"), ("flags", ">i4"), ("oid", ">i4"), ("dim", ">i4"), ("lower", ">i4"))
_HEAD_BYTES = 20
_PREFIX = {"object": "id", "band": "i2"}


def array_layout(name: str, length: int) -> list[tuple[Any, ...]]:
    """Return the fields of an array of some length in a binary row; its elements are in the field of its name."""
    element = np.dtype([("length", ">i4"), ("value", TYPES[ARRAYS[name]])])
    return [(f"{name} length", ">i4"), (f"{name} head", list(_HEAD)), (name, element, (length,))]


def fill_array(rows: Array, name: str, values: Array) -> None:
    """Set an array of each row; `values` are (rows, length), ids (rows, length, 16) bytes, times as the server has."""
    kind = ARRAYS[name]
    field, (count, length) = rows[name], values.shape[:2]
    width = field.dtype["value"].itemsize
    rows[f"{name} length"] = _HEAD_BYTES + length * (4 + width)
    rows[f"{name} head"] = (1, 0, _OIDS[kind], length, 1)
    field["length"] = width
    field["value"] = np.ascontiguousarray(values).view("V16").reshape(count, length) if kind == "id" else values


async def read_segments(
    con: Connection, names: Sequence[str], where: str, *values: Any, joins: str = ""
) -> dict[str, Array]:
    """Return points that are in segments as columns, a row per point, in no order.

    Parameters
    ----------
    con
        A connection.
    names
        Of `ARRAYS`.
    where, values
        Which rows of `segment`. ``$1`` is a list of the names of bands.
    joins
        Further tables.

    Returns
    -------
    dict
        These columns, and `object`, and `band`: a place in ``$1`` counted from 1, or 0.
    """
    columns = ", ".join(f"segment.{name}" for name in names)
    query = (
        f"SELECT segment.object, coalesce(array_position($1::text[], segment.band), 0)::smallint, {columns} "  # noqa: S608
        f"FROM segment {joins} WHERE {VISIBLE} AND {where}"
    )
    data = bytearray()

    async def keep(piece: bytes) -> None:
        data.extend(piece)

    await con.copy_from_query(query, *values, output=keep, format="binary")
    return decode_segments(names, data)


def decode_segments(names: Sequence[str], data: bytes | bytearray) -> dict[str, Array]:
    """Return the points of a binary COPY of (object, band, arrays)."""
    parts: dict[str, list[Array]] = {name: [] for name in (*_PREFIX, *names)}
    view = memoryview(data)
    for length, places in _places(tuple(names), data).items():
        layout = _layout(tuple(names), length)
        rows = np.frombuffer(b"".join([view[place : place + layout.itemsize] for place in places]), layout)
        for name, kind in _PREFIX.items():
            parts[name].append(np.repeat(native(rows[name], kind), length, axis=0))
        for name in names:
            parts[name].append(native(np.ascontiguousarray(rows[name]["value"]).reshape(-1), ARRAYS[name]))
    kinds = {**_PREFIX, **ARRAYS}
    return {name: np.concatenate(found) if found else _none(kinds[name]) for name, found in parts.items()}


def _places(names: tuple[str, ...], data: bytes | bytearray) -> dict[int, list[int]]:
    """Return where the rows of each length begin."""
    place, end, found = 19, len(data) - len(TRAILER), dict[int, list[int]]()
    sizes: dict[int, int] = {}
    before = 2 + sum(4 + np.dtype(TYPES[kind]).itemsize for kind in _PREFIX.values())
    at = before + 4 + _HEAD_BYTES - 8  # of the first array: the number of its elements, before the lower bound
    while place < end:
        length = int.from_bytes(data[place + at : place + at + 4], "big")
        if length not in sizes:
            sizes[length] = _layout(names, length).itemsize
        found.setdefault(length, []).append(place)
        place += sizes[length]
    return found


@functools.lru_cache(maxsize=4096)
def _layout(names: tuple[str, ...], length: int) -> np.dtype[Any]:
    fields: list[tuple[Any, ...]] = [("fields in row", ">i2")]
    for name, kind in _PREFIX.items():
        fields += [(f"{name} length", ">i4"), (name, TYPES[kind])]
    for name in names:
        fields += array_layout(name, length)
    return np.dtype(fields)


def _none(kind: str) -> Array:
    return np.zeros((0, 16), np.uint8) if kind == "id" else np.zeros(0, {"t": "i8"}.get(kind, kind))


def server_times(t_us: Array) -> Array:
    """Return times since 1970 as the server counts them."""
    return t_us.astype(np.int64) - POSTGRES_EPOCH_US
