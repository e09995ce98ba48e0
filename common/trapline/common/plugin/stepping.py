"""Calling the functions of a plug-in with a record: no clock, no socket, so that a test and a replay do the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from trapline.common.channel.event import Event
from trapline.common.channel.record import Record
from trapline.common.plugin.load import Function, Plugin
from trapline.common.plugin.messages import make_message
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header
from trapline.schemas.message import Message

States = dict[str, msgspec.Struct]
"""by name of the function"""

counts: Counter[str] = Counter()
"""what the functions counted"""


def count(name: str, by: int = 1) -> None:
    """Count something that a plug-in does or leaves out: a line in `trapline status --json` and in its metrics."""
    counts[name] += by


def initial_states(plugin: Plugin) -> States:
    """Return the states before the first record."""
    return {f.name: f.said.state() for f in plugin.functions if f.said.state is not None}


def take(plugin: Plugin, states: States, record: Record) -> list[Message[Header]]:
    """Return what the functions publish of a record, and change their states.

    Raises
    ------
    SchemaError
        When the record is no message, or what a function yields is not what it declared.
    """
    messages: list[Message[Header]] = []
    for function in plugin.reading(record.place.channel):
        # Each function has an event of its own: another one's filter takes no rows away from it.
        event = Event(record)
        if event.wanted(function.said.only):
            arguments = (event, states[function.name]) if function.name in states else (event,)
            messages += _messages(plugin, function, event, function.call(*arguments))
        else:
            counts["filtered_out"] += 1
    return messages


def _messages(plugin: Plugin, function: Function, event: Event, result: Any) -> Iterator[Message[Header]]:
    by_class = {output.struct: output for output in function.said.outputs}
    for number, (struct, arrays) in enumerate(_yielded(function, result)):
        output = by_class.get(type(struct))
        if output is None:
            known = ", ".join(c.__name__ for c in by_class) or "nothing"
            raise SchemaError(f"{function.name} published a {type(struct).__name__}; it declared {known}")
        yield make_message(output, struct, arrays, event, f"{plugin.name}.{function.name}", number)


def _yielded(function: Function, result: Any) -> Iterator[tuple[msgspec.Struct, Mapping[str, Any]]]:
    """Yield (struct, arrays) of what a function returned: nothing, one, or many."""
    if result is None:
        return
    many: Iterable[Any] = [result] if isinstance(result, (msgspec.Struct, tuple)) else result
    for item in many:
        struct, arrays = item if isinstance(item, tuple) and len(item) == 2 else (item, {})
        if not isinstance(struct, msgspec.Struct) or not isinstance(arrays, Mapping):
            what = f"a {type(item).__name__}"
            raise SchemaError(f"{function.name} published {what}: yield a struct, or (struct, {{name: array}})")
        yield struct, arrays


def pack_states(states: States) -> bytes:
    """Return the states as msgpack; numpy arrays in them are kept with their type and shape.

    Raises
    ------
    TypeError
        When a state holds what cannot be kept, naming it.
    """
    return msgspec.msgpack.encode(states, enc_hook=_pack_array)


def unpack_states(plugin: Plugin, packed: bytes) -> States:
    """Return the states from what `pack_states` made. A field that is new since has its default.

    Raises
    ------
    ValueError
        When a state is not what the function declares now, with the path of what differs.
    """
    raw: dict[str, msgspec.Raw] = msgspec.msgpack.decode(packed, type=dict[str, msgspec.Raw])
    states = initial_states(plugin)
    for f in plugin.functions:
        if f.name in raw and f.said.state is not None:
            try:
                states[f.name] = msgspec.msgpack.decode(raw[f.name], type=f.said.state, dec_hook=_unpack_array)
            except msgspec.ValidationError as error:
                raise ValueError(f"the kept state of {f.name} is not a {f.said.state.__name__}: {error}") from None
    return states


def _pack_array(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a state cannot hold a {type(value).__name__}: numbers, text, bytes, containers, structs, arrays")


def _unpack_array(kind: Any, value: Any) -> Any:
    if kind is np.ndarray or getattr(kind, "__origin__", None) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
    raise NotImplementedError(f"a state cannot hold a {kind}")
