"""Msgpack, the format of every header and request: plain values to bytes, and never more than a map back."""

from __future__ import annotations

from typing import Any

import msgpack

from trapline.schemas.columns import SchemaError


def pack(value: Any) -> bytes:
    """Return plain values (maps, lists, text, bytes, numbers, None) as msgpack."""
    packed = msgpack.packb(value)
    assert isinstance(packed, bytes)
    return packed


def unpack_map(packed: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Return the msgpack map in a frame, or raise `SchemaError`: never any other error, whatever the bytes."""
    try:
        values = msgpack.unpackb(packed)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise SchemaError(f"a frame of {len(packed)} bytes is not msgpack: {error}") from None
    if not isinstance(values, dict):
        raise SchemaError(f"a header must be a msgpack map, not {type(values).__name__}")
    return values
