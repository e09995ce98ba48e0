"""source_extractor as a daemon: one of a group of workers on `images`, and behind them on `remeasure`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import cast

from trapline.common.channel import Record, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.channel.nearby import Nearby
from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.worker import Worker
from trapline.schemas.header import Header, Place
from trapline.schemas.images import Images
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import Remeasure
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure_again, measure_image
from trapline.source_extractor.following import Follower
from trapline.source_extractor.mesh import Meshes
from trapline.source_extractor.methods import method_named
from trapline.source_extractor.watchlist import Watchlists

Lookup = Callable[[Place], Record | None]
"""the record at a place; None when it is gone"""


class Extractor:
    """The handler: measures images, and answers requests.

    Parameters
    ----------
    settings
        Thresholds and what else is chosen.
    watchlists
        Returns the newest positions to measure along.
    lookup
        Finds the records that a request names.
    counters
        Totals since the start: sources that were left out.
    """

    def __init__(
        self,
        settings: ExtractorConfig,
        watchlists: Callable[[], Watchlists],
        lookup: Lookup,
        counters: Counter[str] | None = None,
    ) -> None:
        self._settings = settings
        self._watchlists = watchlists
        self._lookup = lookup
        self._meshes = Meshes()
        self._counters = Counter[str]() if counters is None else counters

    def __call__(self, record: Record) -> Iterator[Message[Header]]:
        """Yield the `sources` record of an image or a request; nothing for commands and ends of streams."""
        message = record.message
        if isinstance(message.header, Remeasure):
            yield self._answer(cast("Message[Remeasure]", message))
        elif isinstance(message.header, Images) and message.header.image is not None:
            images = cast("Message[Images]", message)
            measured = measure_image(images, self._settings, record.place, self._watchlists(), self._meshes)
            self._counters["sources_left_out"] += measured.header.left_out
            yield measured

    def _answer(self, request: Message[Remeasure]) -> Message[Sources]:
        header = request.header
        blind = self._lookup(header.sources_place) if header.sources_place else None
        if blind is None:
            raise ValueError(f"the request names the sources at {header.sources_place}: they are gone")
        images = self._lookup(header.image_place)
        pixels = cast("Message[Images]", images.message) if images else None
        return measure_again(request, pixels, cast("Message[Sources]", blind.message), self._settings, self._meshes)


async def run(context: Context) -> None:
    """Measure images and answer requests until told to drain."""
    loop, follower = asyncio.get_running_loop(), Follower(context)
    journals = context.config.journal_directory
    nearby = Nearby(journals)

    def lookup(place: Place) -> Record | None:
        if (found := nearby.at(place)) is not None:
            return found
        return asyncio.run_coroutine_threadsafe(_patiently(context, place), loop).result()

    settings = cast("ExtractorConfig", context.section)
    method_named(settings.method)  # one that does not exist ends the service, and no image
    handler = Extractor(settings, follower.current, lookup, context.counters)
    following = asyncio.create_task(follower.follow(), name="follow the watchlist")
    try:
        # What is asked for again is in no hurry: it waits for images, and its processor time for the services that
        # take these on.
        worker = Worker(context, handler, ExtractorConfig.reads, behind=("remeasure",), nearby=Nearby(journals))
        await worker.run()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def _patiently(context: Context, place: Place) -> Record | None:
    """Return a record, however long the relay is away: that is no fault of the request."""
    backoff = Backoff()
    while True:
        try:
            return await record_at(context.connection, place)
        except (RelayUnreachableError, RelayRefusedError) as error:
            context.trouble(error)
            await asyncio.sleep(backoff.next_s())


SERVICE = Service("source_extractor", run)
