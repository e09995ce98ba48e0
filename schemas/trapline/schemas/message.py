"""A message in memory, and its form on the wire: one msgpack map, then one raw frame per array."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
import numpy as np

from trapline.schemas.columns import DTYPES, Array, SchemaError
from trapline.schemas.described import Unregistered
from trapline.schemas.header import Frame, Header
from trapline.schemas.packing import pack, unpack_map
from trapline.schemas.registry import is_known, schema_named, schema_of

H = TypeVar("H", bound=Header, covariant=True)
Buffer = bytes | bytearray | memoryview

MAX_AXES = 4
_LITTLE = sys.byteorder == "little"


@dataclass(frozen=True, slots=True)
class Message(Generic[H]):
    """A header and its arrays by name. Arrays of a decoded message are read-only views of the frames."""

    header: H
    arrays: Mapping[str, Array] = field(default_factory=dict[str, Array])


def encode(message: Message[Header]) -> list[Buffer]:
    """Return the frames of a message: the packed header, then the bytes of each array.

    Arrays that are little-endian and contiguous are not copied.

    Raises
    ------
    SchemaError
        When an array is missing or not of the type that the schema says.
    """
    schema = schema_of(type(message.header))
    schema.check(message.arrays)
    frames = [Frame(name, a.dtype.str[1:], list(a.shape)) for name, a in message.arrays.items()]
    header = msgspec.structs.replace(message.header, schema=schema.schema, frames=frames)
    packed = pack(msgspec.to_builtins(header, builtin_types=(bytes,)))
    return [packed, *(_raw(array) for array in message.arrays.values())]


def decode(frames: Sequence[Buffer], *, unknown_ok: bool = False) -> Message[Header]:
    """Return the message that the frames carry. Arrays are views of the frames: nothing is copied.

    With `unknown_ok`, one of an unknown schema has an `Unregistered` header, and whatever arrays its header names.

    Raises
    ------
    SchemaError
        When the frames are not a known message, with the path of what is wrong.
    """
    if not frames:
        raise SchemaError("a message has at least one frame")
    header = decode_header(frames[0], unknown_ok=unknown_ok)
    if len(frames) != 1 + len(header.frames):
        raise SchemaError(f"{header.schema}: the header names {len(header.frames)} arrays, {len(frames) - 1} came")
    arrays = {f.name: _view(f, data) for f, data in zip(header.frames, frames[1:], strict=True)}
    if not isinstance(header, Unregistered):
        schema_named(header.schema).check(arrays)
    return Message(header, arrays)


def decode_header(packed: Buffer, *, unknown_ok: bool = False) -> Header:
    """Return the header alone: enough to sort and to count records without their arrays."""
    values = unpack_map(packed)
    kind: type[Header] = Unregistered
    if unknown_ok and not is_known(values.get("schema")):
        common = {name: values.pop(name) for name in Header.__struct_fields__ if name in values}
        values = {**common, "fields": values}
    else:
        kind = schema_named(values.get("schema")).header
    try:
        return msgspec.convert(values, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise SchemaError(f"{values.get('schema')}: {error}") from None


def _raw(array: Array) -> Buffer:
    little = array if _LITTLE and array.dtype.isnative else array.astype(array.dtype.newbyteorder("<"))
    contiguous = np.ascontiguousarray(little)
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""


def _view(frame: Frame, data: Buffer) -> Array:
    if frame.dtype not in DTYPES:
        raise SchemaError(f"frame {frame.name!r} has dtype {frame.dtype!r}; allowed are {', '.join(sorted(DTYPES))}")
    if len(frame.shape) > MAX_AXES or any(n < 0 for n in frame.shape):
        raise SchemaError(f"frame {frame.name!r} has the shape {frame.shape}")
    dtype = np.dtype("<" + frame.dtype)
    # Python's integers: a shape whose product overflows int64 must not come out small.
    expected = dtype.itemsize
    for length in frame.shape:
        expected *= length
    size = memoryview(data).nbytes
    if size != expected:
        raise SchemaError(f"frame {frame.name!r} has {size} bytes; {frame.dtype} {frame.shape} takes {expected}")
    array = np.frombuffer(data, dtype=dtype).reshape(frame.shape)
    array.flags.writeable = False
    return array
