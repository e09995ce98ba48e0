"""One record of lightcurves after another: the rules judge its points, and what they say becomes events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Array, Kind, array_to_ids, ids_to_array
from trapline.schemas.lightcurves import PENDING, POINTS, Fork, Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.episodes import Announced
from trapline.transient_finder.judging import judge
from trapline.transient_finder.objects import POSITION
from trapline.transient_finder.points import Columns, Context, Points, blind, measured, once_each, points_of
from trapline.transient_finder.presence import DISAPPEARED, appear, confirm, covered_before, miss, note
from trapline.transient_finder.rules import Rule
from trapline.transient_finder.state import FinderState, Judged, Sky
from trapline.transient_finder.waiting import Entry, single

__all__ = ["FinderState", "Judged", "step"]

RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]


def step(
    state: FinderState, record: Message[Lightcurves], settings: FinderConfig, plugins: Sequence[Rule] = ()
) -> Judged:
    """Judge the points of one record, take them into the history, and return the events.

    The points of an object are judged in the order of their images: one whose value is still to come holds up those
    that follow it. Late records, values measured back in time and values that were not measured (NaN) enter no rule and
    no history; children of forks enter the history alone.

    Parameters
    ----------
    state
        Changed in place; when an error is raised it is as it was.
    record
        The next one of its associator.
    settings
        Thresholds.
    plugins
        Rules besides those of the tree.

    Raises
    ------
    ValueError
        When rows have no image with a start and a band.
    SchemaError
        When a column is missing or of the wrong type.
    """
    points, header = points_of(record), record.header
    pending = PENDING.select(record.arrays) if PENDING.check(record.arrays) else None
    judged = Judged([], [], Counter())
    if points is None and not header.forks:
        return judged
    sky = state.sky(header.dataset, header.producer, settings.history_points)
    ready = [row for fork in header.forks for row in _fork(sky, fork)]
    if points is not None and header.request is not None:
        ready += _answers(sky, points)
    elif points is not None and not header.late:
        _finish_step(sky, points.context, settings, judged)
        _take_points(sky, points, header, settings, plugins, judged)
        if pending is not None:
            ready += _take_pending(sky, points.context, pending, header, settings, judged)
    for part in sky.waiting.ready(ready, lambda child, parent: _inherit(sky, child, parent)):
        _say(judged, [_judged_part(sky, part, settings, plugins, judged)])
    return judged


def _finish_step(sky: Sky, context: Context, settings: FinderConfig, judged: Judged) -> None:
    """Decide on what appeared in the step before when a later one begins."""
    if sky.step_us is None or context.t_us > sky.step_us:
        confirm(sky, context, settings, judged)
        sky.step_us = context.t_us
        sky.step_images = {}
    if context.t_us == sky.step_us:
        sky.step_images[context.image.id] = sky.band(context.key).number


def _take_points(
    sky: Sky, points: Points, header: Lightcurves, settings: FinderConfig, plugins: Sequence[Rule], judged: Judged
) -> None:
    """Judge the points of an image; those of objects that wait stand in line."""
    usable = points.take(measured(points.columns) & (points.columns["kind"] != Kind.BACKFILL))
    parts = [(part, sky.objects.rows(part.columns["object_id"])) for part in once_each(usable)]
    seen = [note(sky, part, rows, settings) for part, rows in parts]
    n_new, said = sum(int(found.new.sum()) for found in seen), list[Announced]()
    for (part, rows), found in zip(parts, seen, strict=True):
        placed = _placed(sky, part, rows)
        waits = sky.waiting.of(rows.tolist())
        for row in np.nonzero(waits)[0].tolist():
            sky.waiting.hold(int(rows[row]), Entry(part.context, single(placed.columns, row)))
        present = Announced(sky, placed, rows, settings, judged.counters)
        said += [present, _judged_part(sky, placed.take(~waits), settings, plugins, judged)]
        appear(present, found, n_new)
    said.append(_missed(sky, points, header.limit_high, settings, judged))
    _say(judged, said)


def _missed(sky: Sky, points: Points, limit_high: float | None, settings: FinderConfig, judged: Judged) -> Announced:
    """Take notice of the objects that have a forced point or a pair, whatever its value: they were not found."""
    forced = points.take(points.columns["kind"] == Kind.FORCED)
    rows = sky.objects.rows(forced.columns["object_id"])
    announced = Announced(sky, _placed(sky, forced, rows), rows, settings, judged.counters)
    if len(forced):
        miss(announced, limit_high)
    return announced


def _take_pending(
    sky: Sky,
    context: Context,
    pending: dict[str, Array],
    header: Lightcurves,
    settings: FinderConfig,
    judged: Judged,
) -> list[int]:
    """Let objects wait for what was asked for in this image; return those that wait no more, for it is too much."""
    rows = sky.objects.rows(pending["object_id"])
    images, kinds = array_to_ids(pending["image_id"]), pending["kind"]
    for row, image_id, kind in zip(rows.tolist(), images, kinds.tolist(), strict=True):
        if kind == Kind.BACKFILL:
            covered_before(sky, row, image_id)
    here = np.array([image_id == context.image.id for image_id in images], bool) & (kinds != Kind.BACKFILL)
    pairs = _placed(sky, Points(context, _as_points(pending, here)), rows[here])
    _say(judged, [_missed(sky, pairs, header.limit_high, settings, judged)])
    given_up = []
    for number, row in enumerate(rows[here].tolist()):
        position = tuple(float(pairs.columns[name][number]) for name in POSITION)
        sky.waiting.hold(row, Entry(context, position=position))
        if dropped := sky.waiting.give_up(row, settings.waiting_points):
            judged.counters["pairs_given_up"] += dropped
            given_up.append(row)
    return given_up


def _as_points(pending: dict[str, Array], which: Bool) -> Columns:
    """Return pairs as points that were not measured."""
    columns: dict[str, npt.NDArray[Any]] = POINTS.empty(int(which.sum()))
    return columns | {name: pending[name][which] for name in ("object_id", "kind", "misses")}


def _answers(sky: Sky, points: Points) -> list[int]:
    """Give the values of pairs to the objects that wait for them, and return these."""
    known = [sky.objects.row_of.get(object_id, -1) for object_id in array_to_ids(points.columns["object_id"])]
    usable, image_id = measured(points.columns), points.context.image.id
    answered = []
    for number, row in enumerate(known):
        if row in sky.waiting:
            value = single(points.columns, number)
            if value["kind"][0] != Kind.BACKFILL and sky.waiting.answer(row, image_id, value, void=not usable[number]):
                answered.append(row)
    return answered


def _fork(sky: Sky, fork: Fork) -> list[int]:
    """Give the past of an object to its children, once nothing of it is pending; return who is to be looked at."""
    parent = int(sky.objects.rows(ids_to_array([fork.parent]))[0])
    children = [int(row) for row in sky.objects.rows(ids_to_array(fork.children))]
    sky.set_episode(parent, DISAPPEARED, None)
    sky.unconfirmed.pop(parent, None)
    for child in children:
        if parent in sky.waiting:
            sky.waiting.heirs.setdefault(parent, []).append(child)
        sky.waiting.hold(child, Entry(None, parent=parent))
    return children if parent not in sky.waiting else []


def _inherit(sky: Sky, child: int, parent: int) -> None:
    for history in sky.bands.values():
        history.inherit(child, parent)
    if sky.objects.table.rows["open"][parent]:
        for row, kind in [key for key in sky.episodes if key[0] == parent]:
            sky.set_episode(row, kind, None)


def _placed(sky: Sky, points: Points, rows: RowNumbers) -> Points:
    found = blind(points.columns) & measured(points.columns)
    return Points(points.context, {**points.columns, **sky.objects.place(rows, points.columns, found)})


def _judged_part(sky: Sky, part: Points, settings: FinderConfig, plugins: Sequence[Rule], judged: Judged) -> Announced:
    rows = sky.objects.rows(part.columns["object_id"])
    announced = Announced(sky, part, rows, settings, judged.counters)
    if len(part):
        judge(announced, plugins)
    return announced


def _say(judged: Judged, parts: Sequence[Announced]) -> None:
    """Add what was found to the events, in the order of the rows."""
    judged.messages.extend(m for part in parts for _, m in sorted(part.messages, key=lambda pair: pair[0]))
    judged.suppressed.extend(m for part in parts for _, m in sorted(part.suppressed, key=lambda pair: pair[0]))
