"""New sources, flares and fades: which points they are, one event per episode, and what an event says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from finder_records import STARS, T0_US, changed, forced, kept_back, record, run, said
from trapline.common.ids import event_id
from trapline.schemas.columns import Flag, Kind, Link, SchemaError, array_to_ids
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.transients import Suppressed, Transients
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step

SETTINGS = FinderConfig()
LIMITS: dict[str, Any] = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 10, "link": int(Link.NEW)}


def steady(count: int, star: Any = 0, flux: Any = 1.0) -> list[Message[Lightcurves]]:
    return [record(k, star, flux) for k in range(count)]


def test_a_new_source_is_announced_with_its_reason():
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
def test_no_new_source_without_the_limits_of_enough_images(quiet):
    assert said(run([record(20, 3, 1.5, **(LIMITS | quiet))])) == []


def test_events_travel_the_suppressed_ones_too():
    found = record(20, [3, 4], 1.5, **LIMITS, v=np.nan, flux_peak_err=np.nan, flags=[0, Flag.NEAR_EDGE])
    judged = step(FinderState(), found, SETTINGS)
    for message, kind in ((judged.messages[0], Transients), (judged.suppressed[0], Suppressed)):
        returned = decode([bytes(frame) for frame in encode(message)])
        assert type(returned.header) is kind
        assert returned.header.event_id == message.header.event_id
        assert returned.header.v is None
        assert math.isnan(returned.header.significance)
        assert returned.arrays["recent.t_us"].tolist() == [T0_US + 20_000_000]
    assert judged.suppressed[0].header.veto == "near_edge"


def test_one_event_per_episode_updated_when_it_grows_and_when_it_ends():
    fluxes = [1.0] * 10 + [5.0, 6.0, 5.0, 1.0, 1.0, 30.0, 1.0]
    judged = run([record(k, 0, flux) for k, flux in enumerate(fluxes)])
    assert said(judged) == [
        (10, "flare", "initial"), (13, "flare", "ended"), (15, "flare", "initial"), (16, "flare", "ended"),
    ]  # fmt: skip
    first, end, second, _ = (m.header for found in judged for m in found.messages)
    assert end.event_id == first.event_id != second.event_id
    assert end.significance == first.significance
    grown = run([record(k, 0, flux) for k, flux in enumerate([*fluxes[:10], 2.0, 2.2, 9.0, 1.0])])
    assert said(grown) == [(10, "flare", "initial"), (12, "flare", "update"), (13, "flare", "ended")]
    opening, growth, last = (m.header for found in grown for m in found.messages)
    assert growth.event_id == opening.event_id
    assert growth.significance > 1.5 * opening.significance
    assert last.significance == growth.significance
    assert len({opening.id, growth.id, last.id}) == 3


def test_the_end_of_a_flare_is_no_fade_and_a_lasting_change_becomes_the_new_mean():
    state = FinderState()
    run([*steady(10), record(10, 0, 50.0)], state=state)
    (sky,) = state.skies.values()
    (row,) = sky.bands["60 MHz", "I"].table.rows
    total = math.sqrt(0.1**2 + 0.1**2 / 10 + 0.05**2)
    assert row["baseline"] == pytest.approx(1 + 6.5 * total / 11)
    assert row["weighted_mean"] == pytest.approx(60 / 11)
    lasting = [(k, kind, what) for k, kind, what in said(run([*steady(10), *steady(200, 0, 2.0)])) if kind == "flare"]
    assert [what for *_, what in lasting] == ["initial", "ended"]


def test_a_fade_is_a_flare_downwards():
    judged = run([*steady(10), record(10, 0, 0.1), record(11, 0, 0.1), record(12, 0, 1.0)])
    assert said(judged) == [(10, "fade", "initial"), (12, "fade", "ended")]
    sigma = math.sqrt(0.1**2 + (0.1**2 / 10) + 0.05**2)
    assert judged[10].messages[0].header.significance == pytest.approx(0.9 / sigma)


def test_a_flare_says_what_it_is_judged_by():
    state = FinderState()
    rng = np.random.default_rng(1)
    fluxes, errors = rng.normal(10, 0.5, 30), rng.uniform(0.3, 0.8, 30)
    for k in range(30):
        assert step(state, record(k, 0, fluxes[k], flux_int_err=errors[k]), SETTINGS).messages == []
    event, variable = step(state, record(30, 0, 30.0, flux_int_err=0.7), SETTINGS).messages
    assert (event.header.kind, variable.header.kind) == ("flare", "variable")
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
    all_fluxes, all_weights = np.append(fluxes, 30.0), np.append(weights, 0.7**-2.0)
    about = (all_weights * all_fluxes).sum() / all_weights.sum()
    assert event.header.n == 31
    assert event.header.v == pytest.approx(all_fluxes.std(ddof=1) / all_fluxes.mean(), rel=1e-12)
    assert event.header.eta == pytest.approx((all_weights * (all_fluxes - about) ** 2).sum() / 30, rel=1e-12)


def test_too_few_points_before_it_make_no_flare():
    assert said(run([*steady(9), record(9, 0, 50.0)])) == []
    assert said(run([*steady(10), record(10, 0, 50.0)])) == [(10, "flare", "initial")]
    assert said(run([*steady(5), record(5, 0, 50.0)], FinderConfig(min_points=5))) == [(5, "flare", "initial")]


def test_bands_and_stokes_have_means_of_their_own_and_share_an_episode():
    assert said(run([*steady(12), record(12, 0, 50.0, band="70 MHz")])) == []
    assert said(run([*steady(12), record(12, 0, 50.0, stokes="V")])) == []
    both = [record(k, 0, 1.0, band=band) for k in range(12) for band in ("60 MHz", "70 MHz")]
    flaring = [
        record(12, 0, 20.0), record(12, 0, 20.0, band="70 MHz"), record(13, 0, 1.0), record(13, 0, 20.0, band="70 MHz"),
        record(14, 0, 1.0), record(14, 0, 1.0, band="70 MHz"),
    ]  # fmt: skip
    judged = run([*both, *flaring])
    assert said(judged) == [(24, "flare", "initial"), (25, "flare", "update"), (29, "flare", "ended")]
    confirmed = judged[25].messages[0].header
    assert confirmed.rule["bands_holding"] == 2, "the other band flares as well: said once"
    again = [*both, *flaring[:2], record(13, 0, 20.0), record(13, 0, 20.0, band="70 MHz")]
    assert said(run(again)) == said(judged)[:2]


def test_vetoed_points_alarm_no_one_and_are_seen_once_per_episode():
    flags = [0, Flag.NEAR_EDGE, Flag.NEGATIVE]
    edge = {"flags": int(Flag.NEAR_EDGE)}
    records = [record(20, [3, 4, 5], 1.5, **LIMITS, flags=flags), *[record(k, 0, 1.0) for k in range(21, 31)]]
    # Nobody hears of what begins at an edge, until a good point comes; a point at an edge can end an episode.
    fluxes = [(9.0, edge), (9.0, edge), (9.0, {}), (9.0, edge), (1.0, edge), (20.0, {})]
    records += [record(31 + k, 0, flux, **flag) for k, (flux, flag) in enumerate(fluxes)]
    judged = run(records)
    assert said(judged) == [
        (0, "new_source", "initial"), (13, "flare", "initial"), (15, "flare", "ended"), (16, "flare", "initial"),
    ]  # fmt: skip
    assert kept_back(judged) == [
        (0, "new_source", "near_edge"), (0, "new_source", "negative"), (11, "flare", "near_edge"),
    ]  # fmt: skip
    assert judged[0].counters == {"suppressed_near_edge": 1, "suppressed_negative": 1}
    assert judged[11].counters == {"suppressed_near_edge": 1}


def test_an_image_with_too_many_new_sources_announces_none_of_them():
    settings = FinderConfig(bad_image_new_sources=50)
    assert len(run([record(20, range(50), 1.5, **LIMITS)], settings)[0].messages) == 50
    (bad,) = run([record(20, range(51), 1.5, **LIMITS)], settings)
    assert bad.messages == []
    assert bad.counters == {"suppressed_bad_image": 51}


def test_a_variable_is_announced_once_taken_back_and_the_same_event_again():
    settings = FinderConfig(variable_thresholds="fixed", variable_min_points=4, flare_sigma=1e6, v_min=0.3, eta_min=3.0)
    # V and eta of 1, 3, 1, 3, ...: 0.58, 133.
    swinging = [record(k, 0, 1.0 + 2.0 * (k % 2), flux_int_err=0.1) for k in range(6)]
    calm = [record(6 + k, 0, 2.0) for k in range(40)]
    wild = [record(46 + k, 0, 1.0 + 9.0 * (k % 2)) for k in range(20)]
    judged = run([*swinging, *calm, *wild], settings)
    events = [(m.header.alert_type, m.header.event_id) for found in judged for m in found.messages]
    assert [alert for alert, _ in events][:3] == ["initial", "retraction", "update"]
    assert len({event for _, event in events}) == 1
    (first,) = judged[3].messages
    v = np.std([1, 3, 1, 3], ddof=1) / 2
    assert first.header.rule["v_now"] == pytest.approx(v)
    assert first.header.rule["v_threshold"] == 0.3
    assert said(run(swinging[:4], settings)) == [(3, "variable", "initial")]


LEFT_OUT: list[dict[str, Any]] = [
    {"flux_int": np.nan},
    {"flux_int_err": np.nan},
    {"flux_int_err": 0.0},
    {"flux_int_err": np.inf},
    {"flux_int": 1e300},
    {"kind": int(Kind.BACKFILL)},
]


@pytest.mark.parametrize("odd", [*LEFT_OUT, None], ids=str)
def test_what_enters_no_rule_enters_no_mean_either(odd):
    def strange(number: int) -> Message[Lightcurves]:
        changes: dict[str, Any] = {"flux": 50.0} | (odd or {})
        made = record(number, 0, **changes)
        return changed(made, late=True) if odd is None else made

    plain, mixed = FinderState(), FinderState()
    for number, good in enumerate(steady(12)):
        step(plain, good, SETTINGS)
        step(mixed, good, SETTINGS)
        found = step(mixed, strange(100 + number), SETTINGS)
        assert (found.messages, found.suppressed) == ([], [])
    a, b = (step(state, record(200, 0, 9.0), SETTINGS).messages[0] for state in (plain, mixed))
    assert a.header == b.header
    assert a.arrays["recent.point_id"].tolist() == b.arrays["recent.point_id"].tolist()


def test_forced_points_count_and_are_where_the_object_was_last_seen():
    records = [record(0, 0, 1.0), *[forced(k, 0, 1.0, object_ra_deg=3.0) for k in range(1, 10)]]
    (flare,) = run([*records, forced(10, 0, 9.0, object_ra_deg=3.0)])[-1].messages
    assert flare.header.ra_deg == 359.5


def test_an_object_with_several_rows_is_judged_row_by_row():
    together = record(20, [0, 1, 0, 0, 1], [1.0, 2.0, 9.0, 1.0, 2.0])
    state = FinderState()
    judged = run([*steady(12, [0, 1], [1.0, 2.0]), together], state=state)
    assert said(judged) == [(12, "flare", "initial"), (12, "flare", "ended")]
    (sky,) = state.skies.values()
    assert sky.bands["60 MHz", "I"].table.rows["n"].tolist() == [15, 14]
    assert sky.episodes == {}


def test_records_that_say_nothing():
    state = FinderState()
    empty = record(0, [])
    for nothing in (empty, changed(empty, image=None, command="monitor_add"), record(1, [0, 1], np.nan)):
        assert step(state, nothing, SETTINGS) == ([], [], {})


def test_records_that_cannot_be_judged_are_refused_and_change_nothing():
    state = FinderState()
    bad = changed(record(0, 0), image=None)
    with pytest.raises(ValueError, match=rf"{bad.header.id.hex()}.*no image"):
        step(state, bad, SETTINGS)
    lacking = record(0, 0)
    arrays = {name: array for name, array in lacking.arrays.items() if name != "flags"}
    with pytest.raises(SchemaError, match="'flags' is missing"):
        step(state, Message(lacking.header, arrays), SETTINGS)
    assert state == FinderState()


def test_what_appears_comes_first_and_then_the_others_both_in_the_order_of_the_rows():
    mixed = record(20, [5, 1, 6, 0], [9.0, 9.0, 9.0, 9.0], **LIMITS)
    mixed.arrays["link"][:] = [Link.NEW, Link.ONE_TO_ONE, Link.NEW, Link.ONE_TO_ONE]
    found = run([*steady(12, [0, 1], [1.0, 2.0]), mixed])[-1].messages
    assert [m.header.object_id for m in found] == [STARS[k] for k in (5, 6, 1, 0)]
    assert [m.header.kind for m in found] == ["new_source", "new_source", "flare", "flare"]
