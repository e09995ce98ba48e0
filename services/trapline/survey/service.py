"""survey as a daemon: in place of telescope, ingest and extractors, with the truth in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import cast

from trapline.common.config import ConfigError
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.worker import Worker
from trapline.survey.answers import Answers, processes
from trapline.survey.config import SurveyConfig
from trapline.survey.following import Follower
from trapline.survey.ledger import Ledger
from trapline.survey.sky import SkyError
from trapline.survey.stored import stored_history
from trapline.survey.visiting import Visiting, truth_of
from trapline.survey.visitlog import VisitLogError
from trapline.survey.visits import visit_at


async def run(context: Context) -> None:
    """Run the survey to its end; told to drain, it finishes the visit under way."""
    config, dataset = cast("SurveyConfig", context.section), context.config.mesh.dataset
    ledger = Ledger(lambda number: truth_of(config, number, dataset), lambda t_us: _number(config, t_us))
    follower = Follower(context, ledger)
    # Requests are answered until the last visit is done: that is when the workers drain.
    draining = asyncio.Event()
    try:
        async with AsyncExitStack() as stack:
            stored = await stack.enter_async_context(stored_history(context)) if config.history_from_store else None
            visiting = Visiting(context, ledger, follower, stored)
            workers = _workers(context, draining, stack)
            first = [asyncio.create_task(visiting.run(), name="visit"), asyncio.create_task(follower.follow())]
            await _first_of(first, [asyncio.create_task(worker.run()) for worker in workers], draining)
    except (SkyError, VisitLogError) as error:
        raise ConfigError(str(error)) from None


def _workers(context: Context, draining: asyncio.Event, stack: AsyncExitStack) -> list[Worker]:
    """Return the workers that answer requests: as many as are answered at the same time."""
    config, loop = cast("SurveyConfig", context.section), asyncio.get_running_loop()
    contexts = [replace(context, draining=draining)]
    if config.parallel == 1:
        return [Worker(contexts[0], Answers(context, loop), SurveyConfig.reads)]
    pool = stack.enter_context(processes(config.parallel))
    names = (f"{context.replica}.{k}" for k in range(1, config.parallel))
    contexts += [replace(context, replica=name, draining=draining) for name in names]
    return [Worker(one, Answers(context, loop, pool), SurveyConfig.reads) for one in contexts]


async def _first_of(
    first: Sequence[asyncio.Task[None]], workers: Sequence[asyncio.Task[None]], draining: asyncio.Event
) -> None:
    """Wait until one task ends, let the workers drain and cancel the others; raise what any of them raised."""
    try:
        await asyncio.wait([*first, *workers], return_when=asyncio.FIRST_COMPLETED)
    finally:
        draining.set()
        for task in first:
            task.cancel()
        results = await asyncio.gather(*first, *workers, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _number(config: SurveyConfig, t_us: int) -> int | None:
    visit = visit_at(config, t_us)
    return None if visit is None else visit.number


SERVICE = Service("survey", run)
