"""What disappears and returns, and what another band must confirm: counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from finder_records import asked, changed, forced, forked, kept_back, record, run, said
from trapline.schemas.columns import Flag, Kind, Link
from trapline.transient_finder.config import BadRegion, FinderConfig

OTHER = "70 MHz"
LIMITS: dict[str, Any] = {"limit_low": 1.0, "limit_high": 2.0, "n_earlier": 10, "link": int(Link.NEW)}
QUIET = FinderConfig(flare_sigma=1e6)
MUST_SHOW: dict[str, Any] = {"header": {"limit_high": 2.0}}


def unseen(first: int, count: int, **given: Any) -> list[Any]:
    """Records of images that did not show star 0, in the middle one of which its flux is still to come."""
    made = [forced(first + k, 0, 0.0, misses=k, **(MUST_SHOW | given)) for k in range(count)]
    if count > 2:
        made[2] = asked(first + 2, 0, 2, **(MUST_SHOW | given))
    return made


def test_five_misses_of_what_must_have_been_seen_make_it_disappear_and_a_match_brings_it_back():
    # Misses count the finished steps before: the sixth image without it is the first to say five.
    records = [record(0, 0, 5.0, **MUST_SHOW), *unseen(1, 8), record(9, 0, 5.0), *unseen(10, 6)]
    judged = run(records, QUIET)
    assert said(judged) == [(6, "disappeared", "initial"), (9, "returned", "initial"), (15, "disappeared", "initial")]
    gone, back, again = (m.header for found in judged for m in found.messages)
    assert gone.significance == pytest.approx((5.0 - 2.0) / 0.1)
    assert {name: gone.rule[name] for name in ("misses", "brightest", "missed_limit")} == {
        "misses": 5.0, "brightest": 5.0, "missed_limit": 2.0,
    }  # fmt: skip
    assert (gone.n, back.n, again.n) == (1, 2, 2)
    assert (gone.ra_deg, gone.dec_deg) == (359.5, -20.0)
    assert back.significance == pytest.approx(50.0)
    assert gone.event_id != again.event_id


@pytest.mark.parametrize(
    "missing", [{"header": {"limit_high": 5.1}}, {"header": {}}, {"header": {"limit_high": 2.0, "late": True}}], ids=str
)
def test_what_may_have_been_there_unseen_has_not_disappeared(missing):
    assert said(run([record(0, 0, 5.0), *unseen(1, 8, **missing)], QUIET)) == []


def test_one_image_that_might_not_have_shown_it_is_enough_to_doubt():
    records = [record(0, 0, 5.0), *unseen(1, 8)]
    assert [kind for _, kind, _ in said(run(records, QUIET))] == ["disappeared"]
    records[2] = changed(records[2], limit_high=9.0)
    assert said(run(records, QUIET)) == []


def test_the_band_that_misses_it_must_have_seen_it_brighter_before():
    faint_there = [record(0, 0, 5.0), record(0, 0, 1.5, band=OTHER), *unseen(1, 8, band=OTHER)]
    assert said(run(faint_there, QUIET)) == []


def test_what_disappears_in_a_bad_region_is_kept_back_and_so_is_its_return():
    settings = FinderConfig(flare_sigma=1e6, bad_regions=(BadRegion(ra_deg=359, dec_deg=-20, radius_deg=1),))
    judged = run([record(0, 0, 5.0), *unseen(1, 8), record(9, 0, 5.0)], settings)
    assert said(judged) == []
    assert kept_back(judged) == [(6, "disappeared", "bad_region")]


def test_a_return_at_an_edge_is_kept_back_and_the_next_one_is_announced():
    edge = {"flags": int(Flag.NEAR_EDGE)}
    judged = run([record(0, 0, 5.0), *unseen(1, 8), record(9, 0, 5.0, **edge), record(10, 0, 5.0)], QUIET)
    assert said(judged)[1:] == [(10, "returned", "initial")]
    assert kept_back(judged) == [(9, "returned", "near_edge")]


def appeared(*others: Any) -> list[Any]:
    """A new source in one band of a step, what other bands say of it, and the next step."""
    return [record(20, 3, 2.5, **LIMITS), *others, record(21, [], header={})]


@pytest.mark.parametrize("other", ["forced", "asked", "before"])
def test_what_another_band_does_not_show_is_taken_back_when_the_step_is_finished(other):
    records = {
        "forced": appeared(forced(20, 3, 0.0, band=OTHER)),
        "asked": appeared(asked(20, 3, band=OTHER)),
        # The other band was folded before: the object that it did not show is measured in it back in time.
        "before": [
            record(20, 9, 1.0, band=OTHER),
            record(20, 3, 2.5, **LIMITS, pending=[(3, 20, OTHER, int(Kind.BACKFILL), 0)]),
            record(21, []),
        ],
    }[other]
    judged = run(records)
    (opening, retraction) = (m.header for found in judged for m in found.messages)
    assert (opening.alert_type, retraction.alert_type) == ("initial", "retraction")
    assert opening.event_id == retraction.event_id
    assert opening.id != retraction.id
    assert retraction.veto == "unconfirmed"
    assert (retraction.rule["bands_covering"], retraction.rule["bands_matched"]) == (2, 1)
    assert retraction.rule["limit_low"] == 1.0
    assert judged[-1].counters == {"retracted_unconfirmed": 1}
    assert [len(found.messages) for found in judged] == ([0, 1, 1] if other == "before" else [1, 0, 1])


def test_a_match_in_another_band_confirms():
    judged = run(appeared(record(20, 3, 2.0, band=OTHER)))
    assert said(judged) == [(0, "new_source", "initial"), (2, "new_source", "update")]
    assert judged[-1].messages[0].header.rule["bands_matched"] == 2


def test_bands_that_do_not_cover_it_say_nothing_and_neither_do_other_steps():
    assert said(run(appeared(record(20, 9, 1.0, band=OTHER)))) == [(0, "new_source", "initial")]
    later = [*appeared(), forced(21, 3, 0.0, band=OTHER), record(22, [])]
    assert said(run(later)) == [(0, "new_source", "initial")]


def test_a_fork_ends_what_goes_on_without_a_word():
    judged = run([record(0, 0, 5.0), *unseen(1, 8), forked(9, 0, [10, 11], [3.0, 2.0]), record(10, 10, 3.0)], QUIET)
    assert said(judged) == [(6, "disappeared", "initial")]
