from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from finder_records import STARS, T0_US, changed, record
from trapline.common.ids import event_id
from trapline.schemas.columns import Flag, Kind, Link, SchemaError, array_to_ids
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.transients import Transients
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step

SETTINGS = FinderConfig()
LIMITS: dict[str, Any] = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 10, "link": int(Link.NEW)}


def run(records: list[Message[Lightcurves]], settings: FinderConfig = SETTINGS) -> list[list[str]]:
    state = FinderState()
    return [[m.header.kind for m in step(state, r, settings).messages] for r in records]


def test_a_new_source_is_announced_with_its_reason() -> None:
    of = bytes(range(16))
    found = record(20, [3, 4], [1.5, 2.5], **LIMITS, limit_image_id=np.frombuffer(of, np.uint8))
    possible, certain = step(FinderState(), found, SETTINGS).messages
    assert (possible.header.certain, certain.header.certain) == (False, True)
    header = possible.header
    assert found.header.image is not None
    assert header.event_id == event_id(T0_US + 20_000_000, STARS[3], "new_source", found.header.image.id)
    assert (header.object_id, header.kind, header.alert_type) == (STARS[3], "new_source", "initial")
    assert (header.limits_image, header.role, header.parents) == (of, "test", [found.header.id])
    assert (header.ra_deg, header.dec_deg, header.flux_peak, header.n) == (359.5, -20.0, 1.5, 21)
    assert header.significance == pytest.approx(5.0)
    assert header.rule["limit_low"] == 1.0
    assert header.rule["warm_up"] == 10.0
    assert array_to_ids(possible.arrays["recent.point_id"]) == array_to_ids(found.arrays["point_id"])[:1]
    assert len({m.header.id for m in (possible, certain)}) == 2


@pytest.mark.parametrize(
    "quiet",
    [{"n_earlier": 9}, {"limit_low": 1.6}, {"limit_low": np.nan}, {"link": int(Link.ONE_TO_ONE)}, {"flux_int": np.nan}],
)
def test_no_new_source_without_the_limits_of_enough_images(quiet: dict[str, Any]) -> None:
    assert run([record(20, 3, 1.5, **(LIMITS | quiet))]) == [[]]


def test_events_travel() -> None:
    found = record(20, [3], [1.5], **LIMITS, v=np.nan, flux_peak_err=np.nan)
    (message,) = step(FinderState(), found, SETTINGS).messages
    returned = decode([bytes(frame) for frame in encode(message)])
    assert isinstance(returned.header, Transients)
    assert returned.header.event_id == message.header.event_id
    assert returned.header.v is None
    assert math.isnan(returned.header.significance)
    assert returned.arrays["recent.t_us"].tolist() == [T0_US + 20_000_000]


def test_one_event_per_episode() -> None:
    fluxes = [1.0] * 10 + [5.0, 6.0, 5.0, 1.0, 9.0, 1.0]
    events = run([record(k, 0, flux) for k, flux in enumerate(fluxes)])
    assert [k for k, kinds in enumerate(events) if kinds] == [10, 14]
    assert events[10] == ["flare"]


def test_a_flare_says_what_it_is_judged_by() -> None:
    state = FinderState()
    rng = np.random.default_rng(1)
    fluxes, errors = rng.normal(10, 0.5, 30), rng.uniform(0.3, 0.8, 30)
    for k in range(30):
        assert step(state, record(k, 0, fluxes[k], flux_int_err=errors[k]), SETTINGS).messages == []
    (event,) = step(state, record(30, 0, 30.0, flux_int_err=0.7), SETTINGS).messages
    weights = errors**-2.0
    mean, mean_err = float((weights * fluxes).sum() / weights.sum()), float(weights.sum() ** -0.5)
    rule = event.header.rule
    assert rule["mean"] == pytest.approx(mean, rel=1e-12)
    assert rule["mean_err"] == pytest.approx(mean_err, rel=1e-12)
    assert (rule["n_before"], rule["sigma"], rule["min_points"]) == (30, 6.5, 10)
    sigma = math.sqrt(0.7**2 + mean_err**2 + (SETTINGS.flux_sys_frac * mean) ** 2)
    assert event.header.significance == pytest.approx((30 - mean) / sigma)
    assert event.arrays["recent.flux_int"].tolist() == [*fluxes[11:].tolist(), 30.0]
    assert event.arrays["recent.t_us"].tolist() == [T0_US + k * 1_000_000 for k in range(11, 31)]


def test_too_few_points_before_it_make_no_flare() -> None:
    assert run([record(k, 0, 1.0 if k < 9 else 50.0) for k in range(10)])[-1] == []
    assert run([record(k, 0, 1.0 if k < 10 else 50.0) for k in range(11)])[-1] == ["flare"]
    five = FinderConfig(min_points=5)
    assert run([record(k, 0, 1.0 if k < 5 else 50.0) for k in range(6)], five)[-1] == ["flare"]


def test_bands_and_stokes_have_means_of_their_own() -> None:
    steady = [record(k, 0, 1.0) for k in range(12)]
    assert run([*steady, record(12, 0, 50.0, band="70 MHz")])[-1] == []
    assert run([*steady, record(12, 0, 50.0, stokes="V")])[-1] == []
    assert run([*steady, record(12, 0, 50.0)])[-1] == ["flare"]


def test_points_at_an_edge_and_negative_ones_alarm_no_one_and_are_counted() -> None:
    state = FinderState()
    flags = [0, Flag.NEAR_EDGE, Flag.NEGATIVE]
    judged = step(state, record(20, [3, 4, 5], 1.5, **LIMITS, flags=flags), SETTINGS)
    assert [m.header.object_id for m in judged.messages] == [STARS[3]]
    assert judged.suppressed == {"near_edge": 1, "negative": 1}
    for k in range(21, 31):
        assert step(state, record(k, 0, 1.0), SETTINGS).suppressed == {}
    assert step(state, record(31, 0, 9.0, flags=int(Flag.NEAR_EDGE)), SETTINGS) == ([], {"near_edge": 1})
    # It opened no episode, so that the next good point is announced; then vetoes have nothing to keep back.
    assert [m.header.kind for m in step(state, record(32, 0, 9.0), SETTINGS).messages] == ["flare"]
    assert step(state, record(33, 0, 9.0, flags=int(Flag.NEAR_EDGE)), SETTINGS) == ([], {})
    assert step(state, record(34, 0, 1.0, flags=int(Flag.NEAR_EDGE)), SETTINGS) == ([], {})
    assert len(step(state, record(35, 0, 20.0), SETTINGS).messages) == 1, "the one before closed the episode"


LEFT_OUT: list[dict[str, Any]] = [
    {"flux_int": np.nan},
    {"flux_int_err": np.nan},
    {"flux_int_err": 0.0},
    {"flux_int_err": np.inf},
    {"flux_int": 1e300},
    {"kind": int(Kind.BACKFILL)},
    {"link": int(Link.FORKED)},
]


@pytest.mark.parametrize("odd", [*LEFT_OUT, None], ids=str)
def test_what_enters_no_rule_enters_no_mean_either(odd: dict[str, Any] | None) -> None:
    def strange(number: int) -> Message[Lightcurves]:
        changes: dict[str, Any] = {"flux": 50.0} | (odd or {})
        made = record(number, 0, **changes)
        return changed(made, late=True) if odd is None else made

    steady = [record(k, 0, 1.0) for k in range(12)]
    plain, mixed = FinderState(), FinderState()
    for number, good in enumerate(steady):
        step(plain, good, SETTINGS)
        step(mixed, good, SETTINGS)
        assert step(mixed, strange(100 + number), SETTINGS) == ([], {})
    a, b = (step(state, record(200, 0, 9.0), SETTINGS).messages[0] for state in (plain, mixed))
    assert a.header == b.header
    assert a.arrays["recent.point_id"].tolist() == b.arrays["recent.point_id"].tolist()


def test_forced_points_count() -> None:
    records = [record(k, 0, 1.0, kind=int(Kind.FORCED), link=int(Link.FORCED)) for k in range(10)]
    assert run([*records, record(10, 0, 9.0)])[-1] == ["flare"]


def test_an_object_with_several_rows_is_judged_row_by_row() -> None:
    together = record(20, [0, 1, 0, 0, 1], [1.0, 2.0, 9.0, 1.0, 2.0])
    steady = [record(k, [0, 1], [1.0, 2.0]) for k in range(12)]
    assert run([*steady, together])[-1] == ["flare"]
    state = FinderState()
    for r in [*steady, together]:
        step(state, r, SETTINGS)
    history = state.bands["60 MHz", "I"]
    assert history.table.rows["n"].tolist() == [15, 14]
    assert history.table.rows["flaring"].tolist() == [0, 0]


def test_records_that_say_nothing() -> None:
    state = FinderState()
    empty = record(0, [])
    assert step(state, empty, SETTINGS) == ([], {})
    assert step(state, changed(empty, image=None, command="monitor_add"), SETTINGS) == ([], {})
    assert step(state, record(1, [0, 1], np.nan), SETTINGS) == ([], {})


def test_records_that_cannot_be_judged_are_refused_and_change_nothing() -> None:
    state = FinderState()
    bad = changed(record(0, 0), image=None)
    with pytest.raises(ValueError, match=rf"{bad.header.id.hex()}.*no image"):
        step(state, bad, SETTINGS)
    lacking = record(0, 0)
    arrays = {name: array for name, array in lacking.arrays.items() if name != "flags"}
    with pytest.raises(SchemaError, match="'flags' is missing"):
        step(state, Message(lacking.header, arrays), SETTINGS)
    assert state == FinderState()


def test_events_come_in_the_order_of_the_rows() -> None:
    steady = [record(k, [0, 1], [1.0, 2.0]) for k in range(12)]
    mixed = record(20, [5, 1, 6, 0], [9.0, 9.0, 9.0, 9.0], **LIMITS)
    mixed.arrays["link"][:] = [Link.NEW, Link.ONE_TO_ONE, Link.NEW, Link.ONE_TO_ONE]
    state = FinderState()
    for r in steady:
        step(state, r, SETTINGS)
    found = step(state, mixed, SETTINGS).messages
    assert [m.header.object_id for m in found] == [STARS[k] for k in (5, 1, 6, 0)]
    assert [m.header.kind for m in found] == ["new_source", "flare", "new_source", "flare"]
