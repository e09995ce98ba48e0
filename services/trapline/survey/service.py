"""survey as a daemon: in place of telescope, ingest and extractors, with the truth in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from trapline.common.config import ConfigError
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.worker import Worker
from trapline.survey.answers import Answers
from trapline.survey.config import SurveyConfig
from trapline.survey.following import Follower
from trapline.survey.ledger import Ledger
from trapline.survey.sky import SkyError
from trapline.survey.visiting import Visiting, truth_of
from trapline.survey.visitlog import VisitLogError
from trapline.survey.visits import visit_at


async def run(context: Context) -> None:
    """Run the survey to its end; told to drain, it finishes the visit under way."""
    config, dataset = cast("SurveyConfig", context.section), context.config.mesh.dataset
    ledger = Ledger(lambda number: truth_of(config, number, dataset), lambda t_us: _number(config, t_us))
    follower = Follower(context, ledger)
    # Requests are answered until the last visit is done: that is when this worker drains.
    own = replace(context, draining=asyncio.Event())
    worker = Worker(own, Answers(context, asyncio.get_running_loop()), SurveyConfig.reads)
    try:
        visiting = asyncio.create_task(Visiting(context, config, ledger, follower).run(), name="visit")
        tasks = [visiting, asyncio.create_task(follower.follow()), asyncio.create_task(worker.run())]
        await _first_of(tasks, own.draining)
    except (SkyError, VisitLogError) as error:
        raise ConfigError(str(error)) from None


async def _first_of(tasks: Sequence[asyncio.Task[None]], draining: asyncio.Event) -> None:
    """Wait until one task ends, let the last drain and cancel the others; raise what any of them raised."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        draining.set()
        for task in tasks[:-1]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _number(config: SurveyConfig, t_us: int) -> int | None:
    visit = visit_at(config, t_us)
    return None if visit is None else visit.number


SERVICE = Service("survey", run)
