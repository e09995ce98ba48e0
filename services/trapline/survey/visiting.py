"""Visit after visit: its records go into the mesh, and what comes of them is waited for, timed and judged."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import numpy.typing as npt

from trapline.common.journal import PartitionReader
from trapline.common.runtime.context import Context
from trapline.common.runtime.publishing import publish
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.message import decode_header
from trapline.schemas.sources import Sources
from trapline.survey.config import SurveyConfig
from trapline.survey.core import Tile, bodies_apart, images_message, sources_message, tiles_of
from trapline.survey.following import Follower
from trapline.survey.ledger import Ledger, Progress
from trapline.survey.score import things
from trapline.survey.stored import StoredHistory
from trapline.survey.visitlog import VisitLog, VisitRow
from trapline.survey.visits import Visit, visit_of

Rows = npt.NDArray[Any]


@lru_cache(maxsize=2)
def seen_in(config: SurveyConfig, number: int, dataset: str) -> list[tuple[Tile, Rows]]:
    """Return what each detector saw in a visit, without the bodies that are known, and these."""
    return [bodies_apart(tile) for tile in tiles_of(config, visit_of(config, number), dataset)]


@lru_cache(maxsize=2)
def truth_of(config: SurveyConfig, number: int, dataset: str) -> dict[bytes, tuple[Rows, Rows]]:
    """Return the ids of the detections of each image of a visit, and what they are (`score.things`)."""
    return {tile.image.id: (tile.source_ids(), things(tile.found)) for tile, _ in seen_in(config, number, dataset)}


@dataclass(slots=True)
class _Steps:
    """What was known of the field before a visit, and how long each step took; NaN: did not happen."""

    objects: int = 0
    history: int = 0
    objects_stored: int = 0
    history_stored: int = 0
    find_s: float = math.nan
    objects_s: float = math.nan
    history_s: float = math.nan
    objects_stored_s: float = math.nan
    history_stored_s: float = math.nan
    publish_s: float = math.nan
    forced_s: float = math.nan
    store_s: float = math.nan
    lost: int = 0


class Visiting:
    """Makes visits until there are no more, or the service shall drain.

    A survey that was stopped goes on with the first visit that has no line in the log; what of it is in the journals
    already is not published again.
    """

    def __init__(
        self, context: Context, ledger: Ledger, follower: Follower, stored: StoredHistory | None = None
    ) -> None:
        self._context, self._ledger, self._follower, self._stored = context, ledger, follower, stored
        self._config = cast("SurveyConfig", context.section)
        self._dataset = context.config.mesh.dataset
        self._log = VisitLog(context.config.data_directory / "survey")
        self._places = _published(context)
        ledger.begin(len(self._log.rows), live=False)

    async def run(self) -> None:
        """Visit; begins when what an earlier run has made is known."""
        await self._follower.caught_up.wait()
        self._ledger.worked_s()
        loop, first = asyncio.get_running_loop(), len(self._log.rows)
        begun_s, number = loop.time(), first
        while number != self._config.visits and not self._context.draining.is_set():
            due_s = begun_s + (number - first) * self._config.cadence_s if self._config.realtime else 0.0
            if await self._context.pause(max(0.0, due_s - loop.time())):
                return
            self._log.append(await self._visit(visit_of(self._config, number)))
            number += 1

    async def _visit(self, visit: Visit) -> VisitRow:
        steps, start = _Steps(), time.perf_counter()
        tiles = await asyncio.to_thread(seen_in, self._config, visit.number, self._dataset)
        steps.find_s = time.perf_counter() - start
        self._ledger.begin(visit.number, live=True)
        await self._look_up(visit, steps)
        begun_s = asyncio.get_running_loop().time()
        for tile, _ in tiles:
            await self._publish(visit, tile)
        steps.publish_s = asyncio.get_running_loop().time() - begun_s
        await self._wait(visit.number, {tile.image.id for tile, _ in tiles}, steps, begun_s)
        return self._row(visit, steps, begun_s, tiles)

    async def _look_up(self, visit: Visit, steps: _Steps) -> None:
        """Look up what an alert of this visit would be sent out with."""
        field = (visit.ra_deg, visit.dec_deg, self._config.field_deg / math.sqrt(2))
        since_us = visit.t_us - round(self._config.history_s * 1e6)
        history, start = self._ledger.history, time.perf_counter()
        objects = history.near(*field)
        steps.objects, steps.objects_s = len(objects), time.perf_counter() - start
        steps.history = len(history.of(objects, since_us))
        steps.history_s = time.perf_counter() - start - steps.objects_s
        if self._stored:
            served = await self._stored.look_up(field, since_us)
            steps.objects_stored, steps.history_stored = served.objects, served.points
            steps.objects_stored_s, steps.history_stored_s = served.objects_s, served.history_s

    async def _publish(self, visit: Visit, tile: Tile) -> None:
        """Append the records of a tile that are not in the journals yet."""
        images = images_message(tile.image, self._dataset)
        place = self._places.get(("images", tile.image.id))
        if place is None:
            place = (await publish(self._context, [images]))[0]
        if ("sources", tile.image.id) not in self._places:
            await publish(self._context, [sources_message(self._config, visit, tile, images, place)])

    async def _wait(self, visit: int, images: set[bytes], steps: _Steps, begun_s: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._config.patience_s):
                await self._follower.matched(visit, images)
                await self._follower.forced()
                steps.forced_s = loop.time() - begun_s if self._ledger.visits[visit].forced else math.nan
                await self._follower.stored()
                steps.store_s = loop.time() - begun_s
        except TimeoutError:
            steps.lost = 1
            self._context.counters["visits_lost"] += 1
            self._context.log.warning("visit lost", visit=visit, patience_s=self._config.patience_s)

    def _row(self, visit: Visit, steps: _Steps, begun_s: float, tiles: Sequence[tuple[Tile, Rows]]) -> VisitRow:
        progress = self._ledger.visits.pop(visit.number, Progress())
        late = int(not steps.store_s <= self._config.cadence_s)
        self._context.counters["visits"] += 1
        self._context.counters["visits_late"] += late
        score, worked_s = self._ledger.score, self._ledger.worked_s()
        return VisitRow(
            visit=visit.number,
            t_us=visit.t_us,
            ra_deg=visit.ra_deg,
            dec_deg=visit.dec_deg,
            filter=visit.filter,
            images=len(tiles),
            bodies=sum(len(bodies) for _, bodies in tiles),
            forced=progress.forced,
            versions=progress.versions,
            alerts=progress.alerts,
            late=late,
            points=self._ledger.history.n_points,
            transients_detected=len(score.transients_detected),
            transients_announced=score.announced(),
            match_s=progress.matched_s - begun_s,
            alert_s=progress.alert_s - begun_s,
            associator_s=worked_s.get("associator", 0.0),
            transient_finder_s=worked_s.get("transient_finder", 0.0),
            database_dumper_s=worked_s.get("database_dumper", 0.0),
            **asdict(progress.counts),
            **asdict(steps),
        )


def _published(context: Context) -> dict[tuple[str, bytes], Place]:
    """Return where the records of an earlier run stand, by (channel, image)."""
    found: dict[tuple[str, bytes], Place] = {}
    for channel in ("images", "sources"):
        partition, directory = context.outputs.partition(channel), context.outputs.writer(channel).directory
        for entry, frame in PartitionReader(directory).first_frames(0):
            header = decode_header(frame)
            if not isinstance(header, (Images, Sources)) or header.image is None:
                continue
            if isinstance(header, Images) or header.request is None:
                found[channel, header.image.id] = Place(channel, partition, entry.epoch, entry.seq)
    return found
