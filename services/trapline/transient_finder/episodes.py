"""One event per object and episode: what a rule says of points becomes openings, updates and ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from trapline.common.ids import event_id
from trapline.schemas.message import Message
from trapline.schemas.transients import Suppressed, Transients
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.events import (
    AlertType,
    Change,
    Finding,
    Statistics,
    event_header,
    suppressed,
    values_of,
    with_recent,
)
from trapline.transient_finder.points import Columns, Points
from trapline.transient_finder.rules import Rule, Verdict
from trapline.transient_finder.state import Episode, Sky, bit
from trapline.transient_finder.vetoes import first_vetoes

RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]


@dataclass(slots=True)
class Announced:
    """What is said of the points of one image, each with the number of the row that caused it."""

    sky: Sky
    points: Points
    rows: RowNumbers
    """of the objects"""
    settings: FinderConfig
    counters: Counter[str]
    messages: list[tuple[int, Message[Transients]]] = field(default_factory=list[tuple[int, Message[Transients]]])
    suppressed: list[tuple[int, Message[Suppressed]]] = field(default_factory=list[tuple[int, Message[Suppressed]]])

    def say(self, row: int, finding: Finding, change: Change) -> Transients:
        """Add a record about the object of a row; with a veto on an opening it is one that is kept back."""
        context = self.points.context
        at = {name: column[row] for name, column in self.points.columns.items()}
        header = event_header(context, at, finding, change)
        recent = self.sky.recent(context.key, int(self.rows[row]), self.settings.recent_points)
        message = with_recent(header, recent)
        if change.veto is None or change.alert_type == "retraction":
            self.messages.append((row, message))
        else:
            self.counters[f"suppressed_{change.veto}"] += 1
            self.suppressed.append((row, Message(suppressed(header), message.arrays)))
        return header

    @property
    def band_bit(self) -> int:
        """Bit of the band of the image."""
        return 1 << bit(self.sky.band(self.points.context.key).number)

    def vetoes(self, kind: str, alarming: Bool, amplitude: Float, n_new: int = 0) -> dict[int, str]:
        """Return which veto keeps back which of the alarming rows."""
        numbers = np.nonzero(alarming)[0]
        if not len(numbers):
            return {}
        candidates = {**self.points.take(numbers).columns, "amplitude": amplitude[numbers]}
        names = first_vetoes(kind, candidates, self.points.context, self.settings, n_new)
        return {row: name for row, name in zip(numbers.tolist(), names, strict=True) if name is not None}

    def event_id(self, row: int, kind: str) -> bytes:
        """Return the id of an event that the point of a row opens."""
        context = self.points.context
        return event_id(context.t_us, self.points.columns["object_id"][row].tobytes(), kind, context.image.id)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of points of which no two are of one object."""

    rule: Rule
    verdict: Verdict
    columns: Columns
    """what it saw"""
    amplitude: Float
    """by how much each flux changed"""

    def finding(self, row: int) -> Finding:
        """Return what is said of one of them."""
        columns, rule = self.columns, self.rule
        statistics = Statistics.known(*(columns[name][row] for name in ("n_now", "v_now", "eta_now")))
        values = {**values_of(columns, rule.reports, row), **rule.thresholds}
        return Finding(rule.kind, float(self.verdict.significance[row]), values, statistics)


def follow(announced: Announced, judgement: Judgement) -> None:
    """Open, update and close the episodes of a rule."""
    holds, judged, rows, sky = judgement.verdict.holds, judgement.verdict.judged, announced.rows, announced.sky
    affected = holds | (sky.objects.table.rows["open"][rows] > 0)
    affected &= True if judged is None else judged
    if not affected.any():
        return
    kind = judgement.rule.kind
    vetoes = announced.vetoes(kind, holds & affected, judgement.amplitude)
    for row in np.nonzero(affected)[0].tolist():
        episode = sky.episodes.get((int(rows[row]), kind))
        if holds[row]:
            _hold(announced, judgement, row, episode, vetoes.get(row))
        elif episode is not None:
            _release(announced, judgement, row, episode)


def _hold(announced: Announced, judgement: Judgement, row: int, episode: Episode | None, veto: str | None) -> None:
    """Take notice of a point of which the rule holds."""
    finding = judgement.finding(row)
    if episode is not None:
        episode.bands |= announced.band_bit
    if episode is None or not (episode.announced or veto):
        event = announced.event_id(row, finding.kind)
        if episode is None or not veto:
            announced.say(row, finding, Change(event, veto=veto))
        opened = Episode(event, finding.significance, announced.band_bit, announced=veto is None)
        announced.sky.set_episode(int(announced.rows[row]), finding.kind, opened)
    elif episode.announced and veto is None:
        _go_on(announced, row, episode, finding)


def _go_on(announced: Announced, row: int, episode: Episode, finding: Finding) -> None:
    """Tell of an event that goes on when it has grown, holds again, or is seen in a second band."""
    bands = episode.bands.bit_count()
    confirmed = bands > 1 and not episode.confirmed
    grown = finding.significance > announced.settings.update_growth * episode.significance
    if grown or confirmed or episode.retracted:
        episode.significance = max(finding.significance, episode.significance)
        episode.retracted, episode.confirmed = False, episode.confirmed or confirmed
        more = {"bands_holding": float(bands)}
        announced.say(row, finding, Change(episode.event_id, "update", more=more))


def _release(announced: Announced, judgement: Judgement, row: int, episode: Episode) -> None:
    """Take notice of a point of which the rule does not hold; when it holds in no band the episode is over."""
    episode.bands &= ~announced.band_bit
    if episode.bands or episode.retracted:
        return
    lasting = judgement.rule.retracts and episode.announced
    if lasting:
        # It keeps its event: should the rule hold again, that is updated.
        episode.retracted = True
    else:
        announced.sky.set_episode(int(announced.rows[row]), judgement.rule.kind, None)
    if episode.announced:
        finding = judgement.finding(row)
        alert: AlertType = "retraction" if lasting else "update"
        largest = replace(finding, significance=finding.significance if lasting else episode.significance)
        announced.say(row, largest, Change(episode.event_id, alert, ended=not lasting))
