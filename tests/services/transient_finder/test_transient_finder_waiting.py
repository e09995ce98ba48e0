"""An object's points are judged in the order of their images, however late a value comes."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from finder_records import answer, asked, forced, forked, record, run, said
from trapline.common.ids import id_time_us
from trapline.schemas.columns import DTYPES
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, Judged, step
from trapline.transient_finder.snapshot import dump, load

SETTINGS = FinderConfig(min_points=4)


def events(judged: list[Judged]) -> list[tuple[Any, ...]]:
    """What the store keeps of each event, in order of time and id."""
    found = [m.header for one in judged for m in one.messages]
    kept = [
        (h.event_id, h.kind, h.alert_type, h.ended, h.image_id, h.t_us, h.ra_deg, h.flux_peak, h.significance,
         tuple(sorted(h.rule.items())), h.n, h.v, h.eta)
        for h in found
    ]  # fmt: skip
    return sorted(kept, key=repr)


def test_a_point_waits_for_the_values_before_it():
    records = [record(k, 0, 1.0) for k in range(4)]
    records += [asked(4, 0), record(5, 0, 9.0), asked(6, 0), record(7, 0, 1.0), answer(6, 0, 8.0), answer(4, 0, 7.0)]
    judged = run(records, SETTINGS)
    # All that was held up is judged when the first value comes, in order: up, up, up, down.
    assert said(judged) == [(9, "flare", "initial"), (9, "flare", "ended")]
    opening, end = (m.header for m in judged[9].messages)
    assert (opening.flux_peak, opening.n) == (7.0, 5)
    assert opening.t_us == id_time_us(opening.image_id)
    assert end.n == 8


def test_other_objects_do_not_wait():
    records = [record(k, [0, 1], 1.0) for k in range(4)]
    records += [record(4, 1, 1.0, pending=[(0, 4, "60 MHz", 1, 0)]), record(5, [0, 1], 9.0)]
    assert said(run(records, SETTINGS)) == [(5, "flare", "initial")]


@pytest.mark.parametrize("seed", range(6))
def test_events_do_not_depend_on_when_values_come(seed):
    """A night of five objects: values in the record of the image, or later, in any order, or never measured."""
    random = np.random.default_rng(seed)
    at_once: list[Message[Lightcurves]] = []
    later: list[Message[Lightcurves]] = []
    outstanding: list[Message[Lightcurves]] = []
    for number in range(60):
        star, blind = number % 5, random.random() < 0.5
        flux = float(random.choice([1.0, 1.1, 0.9, 9.0])) if random.random() > 0.05 else np.nan
        if blind:
            at_once.append(record(number, star, flux, object_ra_deg=random.uniform(0, 1)))
            later.append(at_once[-1])
        else:
            at_once.append(forced(number, star, flux))
            later.append(asked(number, star))
            outstanding.append(answer(number, star, flux))
        while outstanding and random.random() < 0.3:
            later.append(outstanding.pop(int(random.integers(len(outstanding)))))
    random.shuffle(outstanding)  # type: ignore[arg-type]
    state = FinderState()
    expected, found = run(at_once, SETTINGS), run([*later, *outstanding], SETTINGS, state)
    assert len(events(expected)) > 10
    assert events(found) == events(expected)
    (sky,) = state.skies.values()
    assert sky.waiting.queues == {}


def test_children_take_over_the_past_of_their_parent_once_it_is_whole():
    records = [record(k, 0, 1.0) for k in range(4)]
    records += [asked(4, 0), forked(5, 0, [10, 11], [1.0, 9.0]), record(6, [10, 11], [9.0, 1.0]), answer(4, 0, 1.0)]
    state = FinderState()
    judged = run(records, SETTINGS, state)
    # The rows of the fork are not judged: 9.0 in it is no flare; both have five points before it, and it.
    assert said(judged) == [(7, "flare", "initial")]
    (flare,) = judged[7].messages
    assert flare.header.flux_peak == 9.0
    assert flare.header.rule["n_before"] == 6
    assert flare.arrays["recent.flux_int"].tolist() == [1.0] * 6 + [9.0]
    (sky,) = state.skies.values()
    assert (sky.waiting.queues, sky.waiting.heirs) == ({}, {})
    assert events(judged) == events(run([*records[:4], forced(4, 0, 1.0), *records[5:7]], SETTINGS))


def test_a_fork_of_a_fork_waits_for_its_grandparent():
    records = [record(k, 0, 1.0) for k in range(4)]
    records += [asked(4, 0), forked(5, 0, [10, 11], 1.0), forked(6, 10, [20, 21], 1.0), record(7, 20, 9.0)]
    judged = run([*records, answer(4, 0, 1.0)], SETTINGS)
    assert said(judged) == [(8, "flare", "initial")]
    assert judged[8].messages[0].header.rule["n_before"] == 7


def test_a_fork_closes_an_open_episode_and_a_child_opens_its_own():
    records = [*[record(k, 0, 1.0) for k in range(4)], record(4, 0, 9.0), forked(5, 0, [10, 11], [9.0, 1.0])]
    judged = run([*records, record(6, [10, 11], [30.0, 1.0])], SETTINGS)
    assert said(judged) == [(4, "flare", "initial"), (6, "flare", "initial")]


def test_what_never_comes_is_given_up_and_counted():
    settings = FinderConfig(min_points=4, waiting_points=5)
    records = [*[record(k, 0, 1.0) for k in range(4)], *[asked(4 + k, 0) for k in range(7)], record(11, 0, 9.0)]
    state = FinderState()
    judged = run(records, settings, state)
    assert sum((found.counters["pairs_given_up"] for found in judged), 0) == 2
    (sky,) = state.skies.values()
    assert len(sky.waiting.queues[0]) <= 6
    assert said(run([answer(4 + k, 0, 1.0) for k in range(2, 7)], settings, state)) == [(4, "flare", "initial")]


def test_answers_that_nobody_waits_for_change_nothing():
    state = FinderState()
    run([record(k, 0, 1.0) for k in range(4)], SETTINGS, state)
    before = dump(state)[0]
    judged = run([answer(2, 0, 50.0), answer(2, 7, 50.0), answer(9, 0, 50.0, kind=3)], SETTINGS, state)
    assert said(judged) == []
    assert dump(state)[0] == before


def revived(state: FinderState) -> FinderState:
    """Return the state as it comes back from bytes."""
    header, arrays = dump(state)
    assert {array.dtype.str[1:] for array in arrays.values()} <= DTYPES
    read = {name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for name, array in arrays.items()}
    return load(msgpack.unpackb(msgpack.packb(header), strict_map_key=False), read)


def test_what_waits_is_in_the_snapshot():
    records = [record(k, 0, 1.0) for k in range(4)]
    records += [asked(4, 0), record(4, 3, 9.0, band="70 MHz"), forked(5, 0, [10, 11], [1.0, 9.0])]
    records += [record(6, [10, 11], [9.0, 1.0]), answer(4, 0, 1.0), record(7, 10, 1.0)]
    straight, broken = FinderState(), FinderState()
    for one in records:
        expected, found = step(straight, one, SETTINGS), step(broken, one, SETTINGS)
        assert [m.header for m in expected.messages] == [m.header for m in found.messages]
        broken = revived(broken)
    (header, arrays), (again, arrays_again) = dump(straight), dump(broken)
    assert header == again
    assert {k: v.tobytes() for k, v in arrays.items()} == {k: v.tobytes() for k, v in arrays_again.items()}
