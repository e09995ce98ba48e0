"""transient_finder as a daemon: a fold over `lightcurves`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import ArrivalOrder, Order, Step
from trapline.schemas.columns import Array
from trapline.schemas.header import Header
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.cutouts import with_cutouts
from trapline.transient_finder.plugins import load_rules
from trapline.transient_finder.snapshot import dump, load
from trapline.transient_finder.timeline import with_timelines


class FinderFold:
    """What `FoldRunner` needs to know of the finder."""

    reads = ("lightcurves",)
    reads_headers = ()
    writes = ("transients", "suppressed")

    def __init__(self, settings: FinderConfig) -> None:
        self._settings = settings
        self._plugins = load_rules(settings.plugins, settings.plugin_thresholds)
        self._counters: Counter[str] = Counter()

    def order(self) -> Order:
        """Return the order of the associator: its journal's."""
        return ArrivalOrder()

    def initial(self) -> FinderState:
        """Return a state that knows no object."""
        return FinderState()

    def step(self, state: FinderState, inputs: Step) -> Iterable[Message[Header]]:
        """Return the events of one record."""
        if inputs.skipped:
            return ()
        record = cast("Message[Lightcurves]", inputs.records[0].message)
        judged = step(state, record, self._settings, self._plugins)
        self._counters.update(judged.counters)
        return [*judged.messages, *judged.suppressed]

    def dump(self, state: FinderState) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return the state as plain values and arrays."""
        return dump(state)

    def load(self, header: dict[str, Any], arrays: dict[str, Array]) -> FinderState:
        """Return the state that was dumped."""
        return load(header, arrays)

    def counters(self, state: FinderState) -> Mapping[str, int]:
        """Return what each veto kept back or took back since the start, and what goes on now."""
        skies = state.skies.values()
        return {
            "objects": sum(len(sky.objects.table) for sky in skies),
            "episodes": sum(len(sky.episodes) for sky in skies),
            "objects_waiting": sum(len(sky.waiting.queues) for sky in skies),
            **self._counters,
        }


class FinderRunner(FoldRunner[FinderState]):
    """Runs the finder, and adds cut-outs and timelines to its events on their way out."""

    def __init__(self, context: Context, settings: FinderConfig) -> None:
        super().__init__(context, FinderFold(settings))
        self._side_px = settings.cutout_px

    async def finish(self, messages: list[Message[Header]]) -> list[Message[Header]]:
        """Return events with the pixels about them and where the time went, as far as that is still there."""
        return await with_timelines(self._context, await with_cutouts(self._context, messages, self._side_px))


async def run(context: Context) -> None:
    """Judge lightcurves until told to drain."""
    await FinderRunner(context, cast("FinderConfig", context.section)).run()


SERVICE = Service("transient_finder", run)
