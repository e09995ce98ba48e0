"""Answering the associator's requests, as an extractor that has the pixels would."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import cast

from trapline.common.channel import Record, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.runtime.context import Backoff, Context
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import Remeasure
from trapline.survey.config import SurveyConfig
from trapline.survey.core import answer


class Answers:
    """The handler of `remeasure`: forced fluxes as the sky has them.

    Parameters
    ----------
    context
        The process, whose relay has the records that requests name.
    loop
        Where the relay is asked: the handler runs in a thread.
    processes
        Where fluxes are computed; by default in that thread.
    """

    def __init__(
        self, context: Context, loop: asyncio.AbstractEventLoop, processes: ProcessPoolExecutor | None = None
    ) -> None:
        self._context, self._loop, self._processes = context, loop, processes

    def __call__(self, record: Record) -> Iterator[Message[Header]]:
        """Yield the `sources` record that answers a request."""
        request = cast("Message[Remeasure]", record.message)
        place = request.header.sources_place
        blind = asyncio.run_coroutine_threadsafe(self._find(place), self._loop).result() if place else None
        if blind is None:
            raise ValueError(f"the request names the sources at {place}: they are gone")
        config = cast("SurveyConfig", self._context.section)
        measured = (config, request, cast("Message[Sources]", blind.message))
        yield self._processes.submit(answer, *measured).result() if self._processes else answer(*measured)

    async def _find(self, place: Place) -> Record | None:
        """Return a record, however long the relay is away."""
        backoff = Backoff()
        while True:
            try:
                return await record_at(self._context.connection, place)
            except (RelayUnreachableError, RelayRefusedError) as error:
                self._context.trouble(error)
                await asyncio.sleep(backoff.next_s())


def processes(count: int) -> ProcessPoolExecutor:
    """Return processes that compute fluxes; they end with this one, however it ends."""
    # A process that is forked would hold the sockets of this one.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    # Whoever waits for work is not told that nobody is left to give it.
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)
