"""associator as a daemon: a fold over `images` and `sources`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, step
from trapline.associator.order import ImageOrder
from trapline.associator.snapshot import dump, load
from trapline.common.ids import record_id
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import Order, Step
from trapline.schemas.columns import Array
from trapline.schemas.header import Header
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import POINTS, SCHEMA, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources


class AssociatorFold:
    """What `FoldRunner` needs to know of the associator."""

    reads = ("sources", "dead_letters")
    reads_headers = ("images",)
    writes = ("lightcurves",)

    def __init__(self, settings: AssociatorConfig) -> None:
        self._settings = settings
        self._dropped: Counter[str] = Counter()

    def order(self) -> Order:
        """Return the order of images, each with its sources."""
        return ImageOrder(max_hold_s=self._settings.max_hold_s, idle_after_s=self._settings.idle_after_s)

    def initial(self) -> AssociatorState:
        """Return an empty sky."""
        return AssociatorState()

    def step(self, state: AssociatorState, inputs: Step) -> Iterator[Message[Header]]:
        """Yield the `lightcurves` record of an image or a command."""
        header = cast("Images", inputs.records[0].header)
        if header.command is not None:
            yield _answer(header, header.command.name)
            return
        if header.image is None or (inputs.skipped and len(inputs.records) == 1):
            return
        # Sources that could not be taken are as good as none: their image is folded without them.
        measured = None if inputs.skipped else next(iter(inputs.records[1:]), None)
        folded = step(
            state,
            header.image,
            cast("Message[Sources]", measured.message) if measured else None,
            self._settings,
            dataset=header.dataset,
            passed_over=inputs.late,
        )
        self._dropped.update(folded.dropped)
        yield from folded.messages

    def dump(self, state: AssociatorState) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return the state as plain values and arrays."""
        return dump(state)

    def load(self, header: dict[str, Any], arrays: dict[str, Array]) -> AssociatorState:
        """Return the state that was dumped."""
        return load(header, arrays)

    def counters(self, state: AssociatorState) -> Mapping[str, int]:
        """Return what was found, and what was dropped since the start."""
        objects = sum(len(sky.catalogue.table) for sky in state.skies.values())
        return {"objects": objects, **{f"dropped_{reason}": n for reason, n in self._dropped.items()}}


def _answer(header: Images, command: str) -> Message[Header]:
    answer = Lightcurves(
        schema=SCHEMA,
        id=record_id(0, SCHEMA, header.id),
        dataset=header.dataset,
        parents=[header.id],
        command=command,
    )
    return Message(answer, POINTS.empty())


async def run(context: Context) -> None:
    """Fold images until told to drain."""
    await FoldRunner(context, AssociatorFold(cast("AssociatorConfig", context.section))).run()


SERVICE = Service("associator", run)
