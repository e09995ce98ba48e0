"""From an author's struct to a message of the mesh: header class, schema, ids that do not depend on chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np

from trapline.common.channel.event import Event
from trapline.common.ids import fact_id
from trapline.schemas.columns import Array, Column, SchemaError, Table
from trapline.schemas.described import SCHEMA, Described
from trapline.schemas.document import json_schema
from trapline.schemas.header import Header
from trapline.schemas.message import Message
from trapline.schemas.registry import Schema, register, schema_of

ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Output:
    """Structs of a class, on a channel: the author's class, and the schema that was made of it."""

    channel: str
    struct: type[msgspec.Struct]
    schema: Schema


def make_output(channel: str, struct: type[msgspec.Struct], columns: tuple[Column, ...], version: str) -> Output:
    """Return what is published on a channel, its schema registered in this process.

    Raises
    ------
    TypeError, ValueError
        When no schema can be made of the struct.
    """
    if not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
        raise TypeError(f"{struct!r} is not a msgspec.Struct: write `class Name(msgspec.Struct)` with annotated fields")
    if issubclass(struct, Header):
        return _built_in(channel, struct)
    major, dot, minor = version.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ValueError(f'version {version!r} is not "major.minor", as "1.0"')
    table = Table(ROWS, columns, optional=True)
    schema = Schema(f"plugin.{channel}/{version}", _header_class(struct), (table,) if columns else (), (), channel)
    register(schema)
    return Output(channel, struct, schema)


def _built_in(channel: str, struct: type[Header]) -> Output:
    """Return a built-in message on a channel: its own, or one of the plug-in's."""
    schema = schema_of(struct)
    if channel != schema.channel:
        own = _subclass(struct, [], struct)
        schema = Schema(schema.schema, own, schema.tables, schema.planes, channel)
        register(schema)
    return Output(channel, struct, schema)


def _header_class(struct: type[msgspec.Struct]) -> type[Header]:
    fields: list[Any] = []
    for f in msgspec.structs.fields(struct):
        if f.name in Header.__struct_fields__:
            raise ValueError(f"the field {f.name!r} of {struct.__name__} is in every header already: rename it")
        if f.default_factory is not msgspec.NODEFAULT:
            fields.append((f.name, f.type, msgspec.field(default_factory=f.default_factory)))
        elif f.default is not msgspec.NODEFAULT:
            fields.append((f.name, f.type, f.default))
        else:
            fields.append((f.name, f.type))
    made = _subclass(struct, fields, Header)
    msgspec.json.schema(made)  # refuses types that no other language could read
    return made


def _subclass(struct: type[msgspec.Struct], fields: list[Any], base: type[Header]) -> type[Header]:
    made = msgspec.defstruct(struct.__name__, fields, bases=(base,), kw_only=True, omit_defaults=True)
    made.__doc__ = struct.__doc__
    return cast("type[Header]", made)


def make_message(
    output: Output, struct: msgspec.Struct, arrays: Mapping[str, Any], event: Event, by: str, number: int
) -> Message[Header]:
    """Return a message for what a function yielded, with an id that follows from its input and its number.

    Raises
    ------
    SchemaError
        When a field has the wrong type, with its path, or an array is not as declared.
    """
    made = fact_id(event.t_us or 0, "plugin", by, output.channel, event.header.id, number)
    common = {"id": made, "dataset": event.header.dataset, "parents": [event.header.id]}
    return _assembled(output.schema, struct, arrays, common)


def own_message(
    channel: str, struct: msgspec.Struct, *, key: str | bytes, columns: tuple[Column, ...] = (), **arrays: Any
) -> Message[Header]:
    """Return a message for `Mesh.publish`, of a struct of one's own.

    Parameters
    ----------
    channel
        Where it will be published.
    key
        What makes this message this one: published twice with the same key, it counts once.
    columns, arrays
        Arrays that go with it, and what each is.

    Raises
    ------
    TypeError, ValueError
        When no schema can be made of the struct, or a value is not of its type.
    """
    output = make_output(channel, type(struct), columns, "1.0")
    return _assembled(output.schema, struct, arrays, {"id": fact_id(0, "own", channel, key)})


def _assembled(
    schema: Schema, struct: msgspec.Struct, arrays: Mapping[str, Any], common: Mapping[str, Any]
) -> Message[Header]:
    values = {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__}
    values |= {"schema": schema.schema, **common}
    try:
        header = msgspec.convert(_builtins(values), schema.header, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError) as error:
        raise SchemaError(f"{schema.schema}: {error}") from None
    columns = {name: np.asarray(array) for name, array in arrays.items()}
    schema.check(columns)
    return Message(header, columns)


def description(output: Output, producer: str) -> Message[Described]:
    """Return the record that tells other programs what a channel carries."""
    text = msgspec.json.encode(json_schema(output.schema)).decode()
    made = fact_id(0, "schema", output.channel, output.schema.schema, text)
    header = Described(
        schema=SCHEMA,
        id=made,
        producer=producer,
        channel=output.channel,
        message=output.schema.schema,
        json_schema=text,
    )
    return Message(header)


def row_of(array: Array, index: int) -> Any:
    """Return one value of a column as plain Python: 16 bytes for an id."""
    value = array[index]
    return value.tobytes() if isinstance(value, np.ndarray) else value.item()


def _builtins(values: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(values, builtin_types=(bytes,))


def _plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, also inside containers: what a calculation gives is no float to msgspec."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tobytes() if value.dtype == np.uint8 and value.shape == (16,) else value.tolist()
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
