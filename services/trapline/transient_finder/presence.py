"""Objects that appear, disappear and return: judged as their images come, for no forced value is asked.

What is remembered for this is of blind points and of the pairs that were decided, whose values may still be to come: so
these events do not depend on who was how fast.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Link
from trapline.transient_finder import rules
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.episodes import Announced
from trapline.transient_finder.events import Change, Finding, Statistics, changed, values_of, with_recent
from trapline.transient_finder.points import Columns, Context, Points, blind, measured
from trapline.transient_finder.rules import Rule
from trapline.transient_finder.state import Episode, Judged, Sky, bit
from trapline.transient_finder.vetoes import UNCONFIRMED

Bool = npt.NDArray[np.bool_]
RowNumbers = npt.NDArray[np.intp]

NEW_SOURCE, DISAPPEARED, RETURNED = "new_source", "disappeared", "returned"
_LIMITS = ("flux_peak", "flux_peak_err", "limit_low", "limit_high", "n_earlier")
_MISSED = ("misses", "brightest", "brightest_err", "missed_limit")


class Seen(NamedTuple):
    """What an image says of the presence of objects, before its points are judged."""

    new: Bool
    returning: Bool


def note(sky: Sky, points: Points, rows: RowNumbers, settings: FinderConfig) -> Seen:
    """Take notice of the blind points among these (no two of one object), and say which are new and which return."""
    columns, context = points.columns, points.context
    history = sky.band(context.key)
    found = blind(columns) & measured(columns)
    verdict = new_source_rule(settings)
    new = found & (columns["link"] == Link.NEW) & verdict.judge(columns, verdict.thresholds).holds
    returning = np.zeros(len(rows), bool)
    for row in np.nonzero(found & (sky.objects.table.rows["open"][rows] > 0))[0].tolist():
        returning[row] = (int(rows[row]), DISAPPEARED) in sky.episodes
    objects, peak = rows[found], columns["flux_peak"][found]
    sky.objects.table.rows["n_blind"][objects] += 1
    sky.objects.note_step(objects, context.t_us, bit(history.number), matched=True)
    at = history.rows(objects)
    brighter = ~(peak <= history.table.rows["brightest"][at])
    history.table.rows["brightest"][at[brighter]] = peak[brighter]
    history.table.rows["brightest_err"][at[brighter]] = columns["flux_peak_err"][found][brighter]
    history.table.rows["missed_limit"][at] = 0.0
    return Seen(new, returning)


def appear(announced: Announced, seen: Seen, n_new: int) -> None:
    """Announce what is new and what returns; `n_new` is how many new sources the whole image has."""
    settings = announced.settings
    peak = np.abs(announced.points.columns["flux_peak"])
    for kind, rule, alarming in (
        (NEW_SOURCE, new_source_rule(settings), seen.new),
        (RETURNED, Rule(RETURNED, rules.returned, {}, ("flux_peak", "flux_peak_err")), seen.returning),
    ):
        vetoes = announced.vetoes(kind, alarming, peak, n_new)
        for row in np.nonzero(alarming)[0].tolist():
            _appear(announced, rule, row, vetoes.get(row))


def _appear(announced: Announced, rule: Rule, row: int, veto: str | None) -> None:
    sky, object_row = announced.sky, int(announced.rows[row])
    before = sky.episodes.get((object_row, DISAPPEARED)) if rule.kind == RETURNED else None
    at = announced.points.take(np.array([row])).columns
    finding = _finding(rule, at, _statistics(sky, rule.kind, object_row, at))
    # What was kept back when it disappeared is not announced when it returns.
    if before is None or before.announced:
        change = Change(announced.event_id(row, rule.kind), veto=veto)
        header = announced.say(row, finding, change)
        if veto is None:
            sky.unconfirmed.setdefault(object_row, []).append((announced.points.context.key, header))
    if before is not None and veto is None:
        sky.set_episode(object_row, DISAPPEARED, None)


def _statistics(sky: Sky, kind: str, object_row: int, at: Columns) -> Statistics:
    if kind == NEW_SOURCE:
        return Statistics.known(at["n"][0], at["v"][0], at["eta"][0])
    return Statistics(int(sky.objects.table.rows["n_blind"][object_row]))


def _finding(rule: Rule, at: Columns, statistics: Statistics) -> Finding:
    significance = float(rule.judge(at, rule.thresholds).significance[0])
    values = {**values_of(at, rule.reports, 0), **rule.thresholds}
    if rule.kind != NEW_SOURCE:
        return Finding(rule.kind, significance, values, statistics)
    certain = bool(at["flux_peak"][0] > at["limit_high"][0])
    return Finding(rule.kind, significance, values, statistics, certain, at["limit_image_id"][0].tobytes())


def miss(announced: Announced, limit_high: float | None) -> None:
    """Take notice of objects that an image covers and did not show: its forced points and pairs.

    `limit_high` is what the image must have shown; without it nothing can be said of what it did not show.
    """
    sky, rows, columns = announced.sky, announced.rows, announced.points.columns
    history = sky.band(announced.points.context.key)
    at = history.rows(rows)
    limit = np.inf if limit_high is None else limit_high
    sky.objects.note_step(rows, announced.points.context.t_us, bit(history.number), matched=False)
    history.table.rows["missed_limit"][at] = np.maximum(history.table.rows["missed_limit"][at], limit)
    rule = Rule(DISAPPEARED, rules.disappeared, {"misses": float(announced.settings.disappeared_misses)}, _MISSED)
    pairs: dict[str, npt.NDArray[Any]] = {
        **columns, **{name: history.table.rows[name][at] for name in _MISSED if name != "misses"}
    }  # fmt: skip
    verdict = rule.judge(pairs, rule.thresholds)
    vetoes = announced.vetoes(DISAPPEARED, verdict.holds, pairs["brightest"])
    for row in np.nonzero(verdict.holds)[0].tolist():
        _disappear(announced, rule, row, pairs, vetoes.get(row))


def _disappear(announced: Announced, rule: Rule, row: int, pairs: Columns, veto: str | None) -> None:
    sky, object_row = announced.sky, int(announced.rows[row])
    if (object_row, DISAPPEARED) in sky.episodes:
        return
    at = {name: column[row : row + 1] for name, column in pairs.items()}
    finding = _finding(rule, at, Statistics(int(sky.objects.table.rows["n_blind"][object_row])))
    event = announced.event_id(row, DISAPPEARED)
    announced.say(row, finding, Change(event, veto=veto))
    sky.set_episode(object_row, DISAPPEARED, Episode(event, finding.significance, 0, announced=veto is None))


def confirm(sky: Sky, context: Context, settings: FinderConfig, judged: Judged) -> None:
    """Decide, when a time step is finished, on what appeared in it: another band that covers it should show it too.

    `context` is the image that finished it.
    """
    for object_row, events in sky.unconfirmed.items():
        found = sky.objects.table.rows[object_row]
        covering, matched = int(found["covering"]).bit_count(), int(found["matched"]).bit_count()
        if covering < 2:
            continue
        more = {"bands_covering": float(covering), "bands_matched": float(matched)}
        for key, header in events:
            change = Change(header.event_id, "update", more=more)
            if matched < 2:
                change = Change(header.event_id, "retraction", veto=UNCONFIRMED, more=more)
                judged.counters[f"retracted_{UNCONFIRMED}"] += 1
            recent = sky.recent(key, object_row, settings.recent_points)
            judged.messages.append(with_recent(changed(header, context, change), recent))
    sky.unconfirmed.clear()


def new_source_rule(settings: FinderConfig) -> Rule:
    """Return the rule of new sources with its thresholds."""
    return Rule(NEW_SOURCE, rules.new_source, {"warm_up": float(settings.warm_up)}, _LIMITS)


def covered_before(sky: Sky, object_row: int, image_id: bytes) -> None:
    """Take notice that an image of the present step, folded before an object was born in another, covers it."""
    number = sky.step_images.get(image_id)
    if number is not None and sky.step_us is not None:
        sky.objects.note_step(np.array([object_row]), sky.step_us, bit(number), matched=False)
