"""Trying a plug-in's functions without a mesh: events to give them, and `step`, which calls them as the runtime does.

>>> from trapline.common.testing.plugin import fake_lightcurves, step
>>> published = step(find, fake_lightcurves(flux=[1.0, 9.0]))       # doctest: +SKIP
>>> published[0].ratio, published[0].place.channel                  # doctest: +SKIP
(9.0, 'brightenings')
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from trapline.common.channel.event import Event
from trapline.common.channel.record import Record
from trapline.common.ids import fact_id
from trapline.common.plugin.declare import PluginError, declaration_of
from trapline.common.plugin.load import Function, Plugin
from trapline.common.plugin.stepping import take
from trapline.schemas.columns import Array, ids_to_array
from trapline.schemas.examples import example_image, example_messages
from trapline.schemas.header import Header, Place
from trapline.schemas.image import Band
from trapline.schemas.lightcurves import POINTS, SCHEMA, Lightcurves
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of
from trapline.schemas.transients import Transients

_T_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00 UTC
_seqs = itertools.count()


def fake_event(message: Message[Header], *, channel: str | None = None, seq: int | None = None) -> Event:
    """Return a message as a subscriber gets it: through its bytes, so that arrays are read-only views."""
    return Event(_record(message, channel, next(_seqs) if seq is None else seq))


def step(function: Any, *inputs: Message[Header] | Event, state: msgspec.Struct | None = None) -> list[Event]:
    """Call a decorated function with some inputs, one after the other, and return what it publishes, as events.

    Parameters
    ----------
    function
        Decorated with `subscribes`. Its filters apply, and what it yields is checked as when it runs.
    inputs
        Messages, or events, also those of an earlier `step`.
    state
        Given to the function and changed by it; by default a new one of the declared class.

    Raises
    ------
    PluginError
        When the function is not decorated.
    SchemaError
        When it yields what it did not declare.
    """
    said = declaration_of(function)
    if said is None or not said.reads:
        raise PluginError(f'{function!r} is not decorated with @subscribes("CHANNEL")')
    name = str(function.__name__)
    states = {name: state or said.state()} if said.state is not None else {}
    plugin = Plugin("test", (Function(name, function, said),))
    published: list[Event] = []
    for given in inputs:
        record = given.record if isinstance(given, Event) else _record(given, None, next(_seqs))
        published += [fake_event(message) for message in take(plugin, states, record)]
    return published


def fake_lightcurves(
    flux: Sequence[float],
    *,
    mean: Sequence[float] | float = 1.0,
    error: float = 0.1,
    n: int = 20,
    objects: Sequence[int] | None = None,
    t_us: int = _T_US,
    band: str = "60 MHz",
    **columns: Any,
) -> Message[Lightcurves]:
    """Return a `lightcurves` record with a blind point of each of some objects.

    Parameters
    ----------
    flux, mean, error
        Integrated flux density of each point, weighted mean of each object, error of each point; Jy.
    n
        Points of each object in this band.
    objects
        A number for each object: the same number is the same object, in every record.
    t_us
        Start of the image, microseconds since 1970-01-01 UTC.
    columns
        Other columns by name: a value for all rows, or one for each.
    """
    count = len(flux)
    numbers = list(range(count)) if objects is None else list(objects)
    image = example_image(place=Place("images", "0", 0, next(_seqs)), wcs=None)
    image = msgspec.structs.replace(
        image,
        id=fact_id(t_us, "fake image", band),
        band=Band(band),
        t_start_us=t_us,
        centre_ra_deg=350.0,
        radius_deg=50.0,
    )
    values: dict[str, Any] = {
        "object_id": _ids("fake object", numbers),
        "point_id": _ids("fake point", [number * 1_000_003 + t_us for number in numbers]),
        "flux_int": flux,
        "flux_peak": flux,
        "flux_int_err": error,
        "flux_peak_err": error,
        "flux_mean": mean,
        "flux_mean_weighted": mean,
        "flux_std": error,
        "v": 0.1,
        "eta": 1.0,
        "n": n,
        "n_blind": n,
        **{name: np.asarray(numbers, float) * 0.1 + 350.0 for name in ("ra_deg", "object_ra_deg")},
        **dict.fromkeys(("dec_deg", "object_dec_deg"), 52.9),
        **dict.fromkeys(("object_err_ew_deg", "object_err_ns_deg", "pos_err_ew_deg", "pos_err_ns_deg"), 0.01),
        **columns,
    }
    arrays: dict[str, Array] = POINTS.empty(count)
    for name, value in values.items():
        arrays[name][:] = value
    header = Lightcurves(schema=SCHEMA, id=fact_id(t_us, "fake lightcurves", band), image=image)
    return Message(header, arrays)


def fake_transient(number: int = 0, **fields: Any) -> Message[Transients]:
    """Return a `transients` record of an object with a number; fields by name replace what is made up."""
    example = next(m for m in example_messages() if isinstance(m.header, Transients))
    made = {
        "id": fact_id(_T_US, "fake transient", number),
        "event_id": fact_id(_T_US, "fake event", number),
        "object_id": fact_id(_T_US, "fake object", number),
    }
    header: Any = msgspec.structs.replace(example.header, **(made | fields))
    return Message(header, example.arrays)


def _record(message: Message[Header], channel: str | None, seq: int) -> Record:
    target = channel or schema_of(type(message.header)).channel
    return Record(Place(target, "0", 0, seq), _T_US + seq, [bytes(frame) for frame in encode(message)])


def _ids(kind: str, numbers: Iterable[int]) -> Array:
    return ids_to_array(fact_id(_T_US, kind, number) for number in numbers)
