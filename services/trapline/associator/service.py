"""associator as a daemon: a fold over `images`, `sources` and what nobody could measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from trapline.associator.association import search_radius_deg
from trapline.associator.beginning import refuse_unknown_past
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, Folded, answer, command, give_up, step, whole_watchlist
from trapline.associator.order import ImageOrder
from trapline.associator.owners import refuse_other_owners
from trapline.associator.regions import EVERYWHERE, Domain, domain_of
from trapline.associator.snapshot import dump, load
from trapline.common.config import ConfigError
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import Order, Step
from trapline.schemas.columns import Array
from trapline.schemas.header import Header, Place
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode_header
from trapline.schemas.sources import Sources
from trapline.schemas.status import DeadLetter
from trapline.schemas.watchlist import Remeasure, Watchlist

_FULL_EVERY = 1000  # records of the watchlist after which the whole list is told again: nobody looks back further

_COUNTERS = {"elsewhere": "sources_elsewhere", "margin_too_small": "images_beyond_margin"}  # nothing is dropped

_Records = Iterable[Message[Header]]


class AssociatorFold:
    """What `FoldRunner` needs to know of the associator."""

    reads = ("sources", "dead_letters")
    reads_headers = ("images",)
    writes = ("lightcurves", "watchlist", "remeasure")

    def __init__(
        self, settings: AssociatorConfig, domain: Domain = EVERYWHERE, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self._settings, self._domain, self._warn = settings, domain, warn
        self._dropped: Counter[str] = Counter()
        self._order = self._new_order()
        self._watchlists = _FULL_EVERY

    def order(self) -> Order:
        """Return the order of images, each with its sources."""
        self._order, self._watchlists = self._new_order(), _FULL_EVERY
        return self._order

    def initial(self) -> AssociatorState:
        """Return an empty sky."""
        return AssociatorState(domain=self._domain)

    def step(self, state: AssociatorState, inputs: Step) -> _Records:
        """Return what came of an image, an answer, a request that nobody answers, or a command."""
        header = inputs.records[0].header
        if isinstance(header, Images):
            folded = self._image(state, header, inputs)
        elif isinstance(header, DeadLetter):
            request = b"" if inputs.skipped else decode_header(header.input).id
            folded = give_up(state, request, self._settings)
        elif inputs.skipped:
            folded = give_up(state, cast("Sources", header).request or b"", self._settings)
        else:
            folded = answer(state, cast("Message[Sources]", inputs.records[0].message), self._settings)
        if "margin_too_small" in folded.dropped and not self._dropped["margin_too_small"]:
            self._warn(_margin_text(header, self._settings))
        self._dropped.update(folded.dropped)
        return self._with_watchlist(state, folded)

    def dump(self, state: AssociatorState) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return the state as plain values and arrays."""
        return dump(state)

    def load(self, header: dict[str, Any], arrays: dict[str, Array]) -> AssociatorState:
        """Return the state that was dumped."""
        return load(header, arrays, self._domain)

    def counters(self, state: AssociatorState) -> Mapping[str, int]:
        """Return what was found, what is asked for, and what was dropped since the start."""
        objects = sum(len(sky.catalogue.table) for sky in state.skies.values())
        pending = sum(len(request.pairs) for request in state.requests.values())
        found = {"objects": objects, "requests_open": len(state.requests), "pairs_pending": pending}
        return found | {_COUNTERS.get(why, f"dropped_{why}"): n for why, n in self._dropped.items()}

    def needs(self, state: AssociatorState) -> Iterable[Place]:
        """Return records that were consumed and may have to be read once more."""
        return state.needs()

    def delay_s(self, header: Header) -> float:
        """Return how long a request waits while those who take its image on need the processor.

        A new object asks for up to forty earlier images at once, and nobody waits for what comes of it.
        """
        return self._settings.ask_after_s if isinstance(header, Remeasure) else 0.0

    def _new_order(self) -> ImageOrder:
        settings = self._settings
        return ImageOrder(
            max_hold_s=settings.max_hold_s, idle_after_s=settings.idle_after_s, extractors=settings.extractors
        )

    def _image(self, state: AssociatorState, header: Images, inputs: Step) -> Folded:
        if header.command is not None:
            if inputs.skipped:
                return Folded((), {"refused_command": 1})
            return command(state, header.id, header.command, self._settings, header.dataset)
        if header.image is None or (inputs.skipped and len(inputs.records) == 1):
            return Folded((), {})
        # Sources that could not be taken are as good as none: their image is folded without them.
        measured = None if inputs.skipped else next(iter(inputs.records[1:]), None)
        return step(
            state,
            header.image,
            cast("Message[Sources]", measured.message) if measured else None,
            self._settings,
            dataset=header.dataset,
            passed_over=inputs.late,
            sources_place=measured.place if measured else None,
        )

    def _with_watchlist(self, state: AssociatorState, folded: Folded) -> _Records:
        """Return messages with what extractors need: all of the watchlist after a restart, then what changes.

        What was decided before a restart is not told again; the whole list says more.
        """
        others = [m for m in folded.messages if not isinstance(m.header, Watchlist)]
        if self._order.replaying or not others:
            return others
        if self._watchlists >= _FULL_EVERY:
            self._watchlists = 0
            return [*others, whole_watchlist(state, others[0].header.id)]
        self._watchlists += len(folded.messages) - len(others)
        return folded.messages


def _margin_text(header: Header, settings: AssociatorConfig) -> str:
    image = header.image if isinstance(header, Images) else None
    radius_deg = search_radius_deg(image.beam if image else None, settings)
    return (
        f"associator.margin_deg = {settings.margin_deg:g} is less than the {radius_deg:.4g} degrees in which objects "
        f"are searched for in images like those of {image.instrument if image else None!r}: objects near borders of "
        "regions may differ; several times as much is right"
    )


async def run(context: Context) -> None:
    """Fold images until told to drain."""
    settings = cast("AssociatorConfig", context.section)
    try:
        domain = domain_of(
            {region.owner: region.cells for region in settings.regions}, context.replica, settings.margin_deg
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    refuse_unknown_past(context.config, context.replica)
    await refuse_other_owners(context, settings)
    fold = AssociatorFold(settings, domain, context.log.warning)
    await FoldRunner(context, fold, needs=fold.needs, delay_s=fold.delay_s).run()


SERVICE = Service("associator", run)
