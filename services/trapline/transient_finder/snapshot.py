"""The state as a header and arrays, and back: a fold that continues from a snapshot gives the same output."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, TypeVar

import msgspec
import numpy as np

from trapline.common.runtime.snapshot import restoring
from trapline.common.table import GrowingTable
from trapline.schemas.columns import Array
from trapline.schemas.image import Image
from trapline.schemas.transients import Transients
from trapline.transient_finder.history import BAND, POINT, BandHistory, Ring
from trapline.transient_finder.objects import OBJECT, Objects
from trapline.transient_finder.points import Context
from trapline.transient_finder.state import Episode, FinderState, Sky
from trapline.transient_finder.waiting import Entry, Waiting

T = TypeVar("T")

VERSION = "trapline.transient_finder.snapshot/2"

_HELD = "held."


def dump(state: FinderState) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the state as a map that msgpack can pack, and arrays by name: copies, so that the stream can go on."""
    arrays: dict[str, Array] = {}
    skies = []
    for number, ((dataset, producer), sky) in enumerate(state.skies.items()):
        values, columns = _dump_sky(sky)
        skies.append({"dataset": dataset, "producer": producer, **values})
        arrays |= {f"sky{number}.{name}": column for name, column in columns.items()}
    return {"version": VERSION, "skies": skies}, arrays


def load(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> FinderState:
    """Return the state that was dumped.

    Raises
    ------
    SnapshotError
        When it is of another version, or something is missing or not of its type.
    """
    with restoring(header, VERSION):
        return FinderState(
            {
                (values["dataset"], values["producer"]): _load_sky(values, arrays, f"sky{number}.")
                for number, values in enumerate(header["skies"])
            }
        )


def _dump_sky(sky: Sky) -> tuple[dict[str, Any], dict[str, Array]]:
    waiting, held = _dump_waiting(sky.waiting)
    arrays: dict[str, Array] = sky.objects.table.columns("object.") | sky.ring.table.columns("ring.") | held
    for history in sky.bands.values():
        arrays |= history.table.columns(f"band{history.number}.")
    return {
        "ring": {"capacity": sky.ring.capacity, "written": sky.ring.written},
        "bands": [list(key) for key in sky.bands],
        "episodes": [[*key, *astuple(episode)] for key, episode in sky.episodes.items()],
        "step_us": sky.step_us,
        "step_images": [[image_id, number] for image_id, number in sky.step_images.items()],
        "unconfirmed": [
            [row, [[list(key), _plain(event)] for key, event in events]] for row, events in sky.unconfirmed.items()
        ],
        "waiting": waiting,
    }, arrays


def _load_sky(values: Mapping[str, Any], arrays: Mapping[str, Array], prefix: str) -> Sky:
    def table(dtype: np.dtype[Any], name: str) -> GrowingTable:
        return GrowingTable.from_columns(dtype, arrays, f"{prefix}{name}.")

    return Sky(
        ring=Ring(values["ring"]["capacity"], table(POINT, "ring"), values["ring"]["written"]),
        objects=Objects.of(table(OBJECT, "object")),
        bands={
            (name, stokes): BandHistory.of(number, table(BAND, f"band{number}"))
            for number, (name, stokes) in enumerate(values["bands"])
        },
        episodes={(row, kind): Episode(*rest) for row, kind, *rest in values["episodes"]},
        waiting=_load_waiting(values["waiting"], arrays, prefix + _HELD),
        step_us=values["step_us"],
        step_images=dict(map(tuple, values["step_images"])),
        unconfirmed={
            row: [((key[0], key[1]), _of_plain(event, Transients)) for key, event in events]
            for row, events in values["unconfirmed"]
        },
    )


def _dump_waiting(waiting: Waiting) -> tuple[dict[str, Any], dict[str, Array]]:
    contexts: dict[bytes, tuple[int, Context]] = {}
    queues, held = [], []
    for row, queue in waiting.queues.items():
        entries = []
        for entry in queue:
            context = entry.context
            number = -1 if context is None else contexts.setdefault(context.record_id, (len(contexts), context))[0]
            kept = entry.columns is not None
            entries.append([number, kept, list(entry.position), entry.parent, entry.void])
            held += [entry.columns] if entry.columns is not None else []
        queues.append([row, entries])
    names = list(held[0]) if held else []
    arrays = {_HELD + name: np.concatenate([columns[name] for columns in held]) for name in names}
    heirs = [[parent, children] for parent, children in waiting.heirs.items()]
    packed = [_dump_context(context) for _, context in contexts.values()]
    return {"contexts": packed, "queues": queues, "heirs": heirs}, arrays


def _load_waiting(values: Mapping[str, Any], arrays: Mapping[str, Array], prefix: str) -> Waiting:
    contexts = [_load_context(packed) for packed in values["contexts"]]
    held = {name.removeprefix(prefix): column for name, column in arrays.items() if name.startswith(prefix)}
    waiting, taken = Waiting(heirs={parent: list(children) for parent, children in values["heirs"]}), 0
    for row, entries in values["queues"]:
        queue = waiting.queues.setdefault(row, deque())
        for number, kept, position, parent, void in entries:
            columns = {name: column[taken : taken + 1].copy() for name, column in held.items()} if kept else None
            taken += int(kept)
            context = contexts[number] if number >= 0 else None
            queue.append(Entry(context, columns, tuple(position), parent, void))
    return waiting


def _dump_context(context: Context) -> list[Any]:
    bright = [list(source) for source in context.bright]
    return [_plain(context.image), context.record_id, context.dataset, context.trace, bright]


def _load_context(packed: list[Any]) -> Context:
    image = _of_plain(packed[0], Image)
    if image.band is None or image.t_start_us is None:
        raise ValueError("an image that points wait for has no band or no start")
    bright = tuple((ra, dec, peak) for ra, dec, peak in packed[4])
    return Context(image, image.band, image.t_start_us, packed[1], packed[2], packed[3], bright)


def _plain(struct: msgspec.Struct) -> Any:
    return msgspec.to_builtins(struct, builtin_types=(bytes,))


def _of_plain(values: Any, kind: type[T]) -> T:
    return msgspec.convert(values, kind, builtin_types=(bytes,))
