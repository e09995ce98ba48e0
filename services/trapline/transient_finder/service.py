"""transient_finder as a daemon: a fold over `lightcurves`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, cast

from trapline.common.channel.nearby import Nearby
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import ArrivalOrder, Order, Step
from trapline.schemas.columns import Array
from trapline.schemas.header import Header, Place
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.cutouts import images_of, with_cutouts
from trapline.transient_finder.plugins import load_rules
from trapline.transient_finder.snapshot import dump, load
from trapline.transient_finder.timeline import opens, timelines_of, with_timelines


class FinderFold:
    """What `FoldRunner` needs to know of the finder."""

    reads = ("lightcurves",)
    reads_headers = ()
    writes = ("transients", "suppressed")

    def __init__(self, settings: FinderConfig) -> None:
        self._settings = settings
        self._plugins = load_rules(settings.plugins, settings.plugin_thresholds)
        self._counters: Counter[str] = Counter()
        self.opening: dict[Place, Lightcurves] = {}
        """headers of the records that opened events since this was emptied"""

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
        if any(opens(message.header) for message in (*judged.messages, *judged.suppressed)):
            self.opening[inputs.records[0].place] = record.header
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
        self._finder = FinderFold(settings)
        super().__init__(context, self._finder)
        self._side_px = settings.cutout_px
        self._nearby = Nearby(context.config.journal_directory)

    async def finish(self, messages: list[Message[Header]]) -> list[Message[Header]]:
        """Return events with the pixels about them and where the time went, as far as that is still there.

        All of it is looked up at once, and what is on this host without its relay: an event waits for one answer.
        """
        folded, self._finder.opening = self._finder.opening, {}
        if not any(opens(message.header) for message in messages):
            return messages
        connection, nearby = self._context.connection, self._nearby
        wanted = messages if self._side_px else []
        images, told = await asyncio.gather(
            images_of(connection, wanted, nearby), timelines_of(connection, folded, nearby)
        )
        return with_timelines(with_cutouts(self._context, messages, images, self._side_px), folded, told)


async def run(context: Context) -> None:
    """Judge lightcurves until told to drain."""
    await FinderRunner(context, cast("FinderConfig", context.section)).run()


SERVICE = Service("transient_finder", run)
