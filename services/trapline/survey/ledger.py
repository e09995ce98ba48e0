"""What the mesh has said of each visit so far, from the records as they come."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from trapline.common.channel import Gap, Record
from trapline.schemas.columns import Kind
from trapline.schemas.lightcurves import PENDING, STATES, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.status import Status
from trapline.schemas.transients import Transients
from trapline.survey.core import INSTRUMENT
from trapline.survey.history import History
from trapline.survey.score import Counts, Score

Rows = npt.NDArray[Any]
Truths = Mapping[bytes, tuple[Rows, Rows]]


@dataclass
class Progress:
    """What has come of a visit.

    Attributes
    ----------
    images
        Ids of its images whose `lightcurves` record has come.
    counts
        How its detections were joined.
    matched_s, alert_s
        Loop time of the last `lightcurves` record of its images, and of the last event.
    """

    images: set[bytes] = field(default_factory=set)
    counts: Counts = field(default_factory=Counts)
    forced: int = 0
    versions: int = 0
    alerts: int = 0
    matched_s: float = float("nan")
    alert_s: float = float("nan")


class Ledger:
    """Folds what is read of `lightcurves` and `transients` into history, score and the progress of each visit.

    Parameters
    ----------
    truth_of
        Returns the ids of the detections of each image of a visit, and what they are (`score.things`).
    visit_of
        Returns the number of the visit that began at a time in microseconds; None when none did.
    """

    def __init__(self, truth_of: Callable[[int], Truths], visit_of: Callable[[int], int | None]) -> None:
        self._truth_of, self._visit_of = truth_of, visit_of
        self.history = History()
        self.score = Score(self.history)
        self.visits: defaultdict[int, Progress] = defaultdict(Progress)
        self._under_way, self._live = 0, False
        self.open_pairs = 0
        self._busy_s: dict[tuple[str, str, int], float] = {}
        self._told_s: dict[str, float] = {}
        self.ends: dict[tuple[str, str], int] = {}
        self.counters: Counter[str] = Counter()
        self.changed = asyncio.Event()

    def take(self, item: Record | Gap, now_s: float) -> None:
        """Take a record or a gap of any channel that is followed."""
        if isinstance(item, Gap):
            self.counters[f"gap_{item.channel}"] += item.end_seq - item.first_seq
            return
        place = item.place
        message = item.message
        self.ends[place.channel, place.partition] = place.seq + 1
        if isinstance(message.header, Lightcurves):
            self._lightcurves(cast("Message[Lightcurves]", message), now_s)
        elif isinstance(message.header, Transients):
            self._event(message.header, now_s)
        elif isinstance(message.header, Status):
            status = message.header
            self._busy_s[status.service, status.replica, status.pid] = status.busy_s
        self.changed.set()

    def begin(self, visit: int, *, live: bool) -> None:
        """Let a visit be under way; not `live`: what is read now of earlier ones came of these, not of it."""
        self._under_way, self._live = visit, live

    def worked_s(self) -> dict[str, float]:
        """Return how long each service worked on records, as it has reported since this was asked before."""
        total: dict[str, float] = {}
        for (service, _, _), seconds in self._busy_s.items():
            total[service] = total.get(service, 0.0) + seconds
        since = {service: seconds - self._told_s.get(service, 0.0) for service, seconds in total.items()}
        self._told_s = total
        return since

    def _progress(self, visit: int) -> Progress:
        """Return what a record of an image of a visit counts for: of an earlier one, for the visit under way."""
        if visit >= self._under_way:
            return self.visits[visit]
        return self.visits[self._under_way] if self._live else Progress()

    def _lightcurves(self, message: Message[Lightcurves], now_s: float) -> None:
        header, arrays, image = message.header, message.arrays, message.header.image
        number = None if image is None or image.instrument != INSTRUMENT else self._visit_of(image.t_start_us or 0)
        if image is None or number is None:
            self.counters["records_of_others"] += 1
            return
        numbers = self.history.add(image.t_start_us or 0, arrays)
        forced = int(np.count_nonzero(arrays["kind"] != Kind.BLIND))
        self.open_pairs += len(PENDING.select(arrays).get("object_id", ()))
        self.open_pairs -= forced if header.request is not None else 0
        visit = self._progress(number)
        visit.forced += forced
        visit.versions += len(STATES.select(arrays).get("object_id", ()))
        if header.request is None:
            visit.images.add(image.id)
            visit.counts.add(self.score.judge(*self._truth_of(number)[image.id], arrays, numbers))
            visit.matched_s = now_s

    def _event(self, event: Transients, now_s: float) -> None:
        self.score.events.add(event.object_id)
        if (number := self._visit_of(event.t_us)) is not None:
            visit = self._progress(number)
            visit.alerts += 1
            visit.alert_s = now_s
