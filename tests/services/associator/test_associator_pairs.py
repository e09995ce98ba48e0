"""Which (object, image) pairs get a forced point, what is asked for, misses and expiry: computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from associator_images import T0_US, brought_along, image, record_of, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, Folded, answer, command, give_up, step
from trapline.common.ids import fact_id, forced_source_id, point_id, record_id
from trapline.schemas.columns import Arrays, Flag, Kind, Link, array_to_ids
from trapline.schemas.header import Place
from trapline.schemas.image import Image, Quality
from trapline.schemas.images import Command
from trapline.schemas.message import Message, encode
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import Remeasure, Watchlist

SETTINGS = AssociatorConfig(expiration=3, backfill=2)
S = 1_000_000


def fold(state: AssociatorState, record: Message[Sources], settings: AssociatorConfig = SETTINGS) -> Folded:
    return step(state, record.header.image, record, settings, sources_place=Place("sources", "0", 0, state.told))


def requests(folded: Folded) -> list[Message[Any]]:
    for message in folded.messages:
        encode(message)
    return [m for m in folded.messages if isinstance(m.header, Remeasure)]


def watched(folded: Folded) -> list[tuple[bytes, float, int]]:
    """Return (object, declination, kind) of what changed on the watchlist."""
    return [
        row
        for m in folded.messages
        if isinstance(m.header, Watchlist)
        for row in zip(
            array_to_ids(m.arrays["object_id"]), m.arrays["dec_deg"].tolist(), m.arrays["kind"].tolist(), strict=True
        )
    ]


def founded(state: AssociatorState, number: int = 0, dec: Any = 50.0) -> tuple[list[bytes], Folded]:
    folded = fold(state, sources(image(number), 10.0, dec))
    return array_to_ids(record_of(folded).arrays["object_id"]), folded


def pending(folded: Folded) -> list[tuple[bytes, bytes, int, int]]:
    arrays = record_of(folded).arrays
    if "pending.kind" not in arrays:
        return []
    names = ("pending.object_id", "pending.image_id")
    ids = [array_to_ids(arrays[name]) for name in names]
    return list(zip(*ids, arrays["pending.kind"].tolist(), arrays["pending.misses"].tolist(), strict=True))


def test_an_object_that_is_not_found_is_asked_for_and_answered() -> None:
    state = AssociatorState()
    (star,), _ = founded(state)
    folded = fold(state, sources(image(1)))
    (request,) = requests(folded)
    assert pending(folded) == [(star, image(1).id, Kind.FORCED, 0)]
    assert request.header.image_place == image(1).place
    assert request.header.sources_place == Place("sources", "0", 0, 1)
    assert request.arrays["dec_deg"].tolist() == [50.0]
    told = answer(state, brought_along(image(1), request, flux=3.0), SETTINGS)
    record = record_of(told)
    assert record.header.request == request.header.id
    assert record.header.id == record_id(T0_US + S, "trapline.lightcurves", image(1).id, request.header.id)
    assert record.header.image is not None
    assert record.header.image.id == image(1).id
    source = forced_source_id(T0_US + S, image(1).id, star, Kind.FORCED)
    assert array_to_ids(record.arrays["point_id"]) == [point_id(T0_US + S, star, source)]
    assert (record.arrays["kind"][0], record.arrays["link"][0]) == (Kind.FORCED, Link.FORCED)
    assert (record.arrays["n"][0], record.arrays["n_blind"][0]) == (2, 1)
    assert record.arrays["flux_mean"] == pytest.approx([2.0])
    assert array_to_ids(record.arrays["states.object_id"]) == [star]
    assert answer(state, brought_along(image(1), request), SETTINGS) == ((), {"repeated_answer": 1})


def test_what_the_watchlist_brought_along_is_taken_if_it_was_measured_at_that_place_to_the_last_bit() -> None:
    for turn, taken in ((0, True), (1, False)):
        state = AssociatorState()
        (star,), folded = founded(state)
        (watch,) = [m for m in folded.messages if isinstance(m.header, Watchlist)]
        assert watch.header.version == 0
        watch.arrays["dec_deg"][:] = np.nextafter(50.0, 51.0) if turn else 50.0
        folded = fold(state, brought_along(image(1), watch, flux=7.0))
        arrays = record_of(folded).arrays
        assert array_to_ids(arrays["object_id"]) == ([star] if taken else [])
        assert len(requests(folded)) == (not taken)
        if taken:
            assert (arrays["link"][0], arrays["flux_mean"][0], arrays["misses"][0]) == (Link.FORCED, 4.0, 0)


def test_a_row_that_no_pair_asks_for_is_no_point() -> None:
    state = AssociatorState()
    _, folded = founded(state)
    (watch,) = [m for m in folded.messages if isinstance(m.header, Watchlist)]
    along, blind = brought_along(image(1), watch), sources(image(1), 10.0, 50.0)
    both = {name: np.concatenate([array, along.arrays[name]]) for name, array in blind.arrays.items()}
    arrays = record_of(fold(state, Message(blind.header, both))).arrays
    assert arrays["link"].tolist() == [Link.ONE_TO_ONE]


def test_a_request_that_nobody_can_answer_gives_a_point_without_a_value() -> None:
    state = AssociatorState()
    (star,), _ = founded(state)
    (request,) = requests(fold(state, sources(image(1))))
    arrays = record_of(give_up(state, request.header.id, SETTINGS)).arrays
    assert array_to_ids(arrays["object_id"]) == [star]
    assert np.isnan(arrays["flux_int"]).all()
    assert arrays["flags"].tolist() == [Flag.NO_PIXELS]
    assert (arrays["n"][0], arrays["flux_mean"][0]) == (1, 1.0)
    assert len(arrays["states.n"]) == 0
    assert give_up(state, request.header.id, SETTINGS).messages == ()


def test_an_answer_that_lacks_a_row_or_has_another_position_gives_a_point_without_a_value() -> None:
    state = AssociatorState()
    stars, _ = founded(state, dec=[49.8, 50.0, 50.2])
    (request,) = requests(fold(state, sources(image(1))))
    wrong = brought_along(image(1), request, flux=5.0)
    wrong.arrays["watch_ra_deg"][1] += 1e-9
    short = Message(wrong.header, {name: array[:2] for name, array in wrong.arrays.items()})
    arrays = record_of(answer(state, short, SETTINGS)).arrays
    assert array_to_ids(arrays["object_id"]) == stars
    assert arrays["flux_int"] == pytest.approx([5.0, np.nan, np.nan], nan_ok=True)


def misses_of(state: AssociatorState, record: Message[Sources]) -> list[int]:
    return [misses for _, _, _, misses in pending(fold(state, record))]


def test_misses_are_finished_time_steps_and_an_object_expires_and_revives() -> None:
    state = AssociatorState()
    (star,), _ = founded(state)
    # Two bands per step: a step is a miss once, when it is over.
    assert [misses_of(state, sources(image(k))) for k in (1, 2)] == [[0], [1]]
    assert misses_of(state, sources(image(2, band="70 MHz"))) == [1]
    assert misses_of(state, sources(image(3))) == [2]
    folded = fold(state, sources(image(4)))
    assert pending(folded) == []
    assert watched(folded) == [(star, 50.0, 255)]
    folded = fold(state, sources(image(5), 10.0, 50.0))
    assert record_of(folded).arrays["link"].tolist() == [Link.ONE_TO_ONE]
    assert watched(folded) == [(star, 50.0, Kind.FORCED)]
    assert misses_of(state, sources(image(6))) == [0]


def test_a_match_in_one_band_of_a_step_makes_it_no_miss() -> None:
    state = AssociatorState()
    founded(state)
    assert misses_of(state, sources(image(1))) == [0]
    fold(state, sources(image(1, band="70 MHz"), 10.0, 50.0))
    assert misses_of(state, sources(image(2))) == [0]
    assert misses_of(state, sources(image(3))) == [1]


def test_a_late_image_adds_no_miss_has_its_pairs_and_its_match_ends_the_misses() -> None:
    state = AssociatorState()
    founded(state)
    assert [misses_of(state, sources(image(k))) for k in (2, 4)] == [[0], [1]]
    assert misses_of(state, sources(image(3))) == [1], "late: measured, and no step of its own"
    fold(state, sources(image(1), 10.0, 50.0))
    assert misses_of(state, sources(image(5))) == [1], "the step at 4 s ended after the late match"


def test_only_images_that_cover_the_object_count() -> None:
    state = AssociatorState()
    founded(state)
    assert [misses_of(state, sources(image(k, ra_deg=40.0))) for k in range(1, 9)] == [[]] * 8
    assert misses_of(state, sources(image(9))) == [0]
    rejected = image(10, quality=Quality(rejected=True))
    assert pending(step(state, rejected, sources(rejected), SETTINGS)) == []
    assert pending(step(state, image(11), None, SETTINGS)) == []
    assert misses_of(state, sources(image(12))) == [1]


def test_a_new_object_is_looked_for_in_the_newest_images_of_each_band_that_cover_it() -> None:
    state = AssociatorState()
    covering = [image(k) for k in range(3)] + [image(3, band="70 MHz")]
    for of in (*covering, image(4, band="70 MHz", ra_deg=40.0)):
        fold(state, sources(of))
    folded = fold(state, sources(image(5), 10.0, 50.0))
    asked = requests(folded)
    # Of 60 MHz the last two of three; of 70 MHz the last two, one of which is elsewhere.
    expected = [covering[1], covering[2], covering[3]]
    assert [r.header.image_place for r in asked] == [of.place for of in expected]
    assert [image_id for _, image_id, _, _ in pending(folded)] == [of.id for of in expected]
    assert {kind for _, _, kind, _ in pending(folded)} == {Kind.BACKFILL}
    arrays = record_of(answer(state, brought_along(covering[2], asked[1], flux=3.0), SETTINGS)).arrays
    assert (arrays["kind"][0], arrays["link"][0], arrays["n"][0]) == (Kind.BACKFILL, Link.FORCED, 2)


def test_the_watch_position_is_renewed_at_powers_of_two() -> None:
    state = AssociatorState()
    (star,), _ = founded(state)
    moves = []
    for number in range(1, 9):
        changed = watched(fold(state, sources(image(number), 10.0, 50.0 + 0.001 * number)))
        assert {id_ for id_, _, _ in changed} <= {star}
        moves += [(number + 1, dec) for _, dec, _ in changed]
    assert [n for n, _ in moves] == [2, 4, 8]
    assert [dec for _, dec in moves] == pytest.approx([50.0005, 50.0015, 50.0035], abs=1e-9)


def test_children_of_a_fork_are_watched_and_not_looked_for_back_in_time() -> None:
    state = AssociatorState()
    fold(state, sources(image(0)))
    (parent,), _ = founded(state, 1)
    folded = fold(state, sources(image(2), 10.0, [49.97, 50.03]))
    children = array_to_ids(record_of(folded).arrays["object_id"])
    assert requests(folded) == []
    changed = {id_: (dec, kind) for id_, dec, kind in watched(folded)}
    assert changed[parent] == (50.0, 255)
    assert [changed[child][0] for child in children] == pytest.approx([49.985, 50.015], abs=1e-7)
    assert [id_ for id_, _, _, _ in pending(fold(state, sources(image(3))))] == sorted(children, key=children.index)


def test_a_value_of_a_parent_counts_for_all_that_it_became() -> None:
    state = AssociatorState()
    (parent,), _ = founded(state)
    (request,) = requests(fold(state, sources(image(1))))
    first = array_to_ids(record_of(fold(state, sources(image(2), 10.0, [49.97, 50.03]))).arrays["object_id"])
    grand = array_to_ids(record_of(fold(state, sources(image(3), 10.0, [49.97, 50.015, 50.045]))).arrays["object_id"])
    arrays = record_of(answer(state, brought_along(image(1), request, flux=9.0), SETTINGS)).arrays
    assert array_to_ids(arrays["object_id"]) == [parent]
    states = dict(zip(array_to_ids(arrays["states.object_id"]), arrays["states.n"].tolist(), strict=True))
    assert states == {parent: 2, first[0]: 4, first[1]: 3, grand[1]: 4, grand[2]: 4}


def monitor(name: str, position: bytes, ra: float | None = 10.1, dec: float | None = 50.1) -> Command:
    return Command(name=name, object_id=position, ra_deg=ra, dec_deg=dec)


def test_a_monitored_position_has_a_point_in_every_image_and_no_part_in_association() -> None:
    state, position = AssociatorState(), fact_id(0, "monitored", "x")
    folded = command(state, b"a" * 16, monitor("monitor_add", position), SETTINGS, "default")
    assert record_of(folded).header.command == "monitor_add"
    assert watched(folded) == [(position, 50.1, Kind.MONITORED)]
    folded = fold(state, sources(image(0), 10.1, 50.1))
    assert record_of(folded).arrays["link"].tolist() == [Link.NEW]
    assert (position, image(0).id, Kind.MONITORED, 0) in pending(folded)
    (request,) = requests(folded)
    arrays = record_of(answer(state, brought_along(image(0), request, flux=2.0), SETTINGS)).arrays
    assert (arrays["kind"][0], arrays["link"][0], arrays["n"][0]) == (Kind.MONITORED, Link.MONITORED, 1)
    assert (arrays["object_err_ew_deg"][0], arrays["first_seen_us"][0]) == (0.0, T0_US)
    asked = [pending(fold(state, sources(image(k), 10.1, 50.1))) for k in range(1, 8)]
    assert [[id_ for id_, _, _, _ in pairs] for pairs in asked] == [[position]] * 7
    folded = command(state, b"b" * 16, monitor("monitor_remove", position, None, None), SETTINGS, "default")
    assert watched(folded) == [(position, 50.1, 255)]
    assert pending(fold(state, sources(image(9), 10.1, 50.1))) == []
    command(state, b"c" * 16, monitor("monitor_add", position), SETTINGS, "default")
    assert [id_ for id_, _, _, _ in pending(fold(state, sources(image(10), 10.1, 50.1)))] == [position]


@pytest.mark.parametrize("asked", [monitor("monitor_add", bytes(16), None), monitor("paint", bytes(16))])
def test_a_command_that_is_none_is_refused(asked: Command) -> None:
    state = AssociatorState()
    with pytest.raises(ValueError, match=r"should be set|known are"):
        command(state, b"a" * 16, asked, SETTINGS, "default")
    assert state == AssociatorState()


def test_forced_points_can_be_kept_out_of_the_statistics() -> None:
    state, blind_only = AssociatorState(), AssociatorConfig(forced_statistics=False)
    fold(state, sources(image(0), 10.0, 50.0, 1.0), blind_only)
    (request,) = requests(fold(state, sources(image(1)), blind_only))
    arrays: Arrays = record_of(answer(state, brought_along(image(1), request, flux=5.0), blind_only)).arrays
    assert (arrays["flux_int"][0], arrays["flux_mean"][0], arrays["n"][0]) == (5.0, 1.0, 1)


def test_an_image_without_a_place_cannot_be_folded() -> None:
    of: Image = image(0, place=None)
    with pytest.raises(ValueError, match="no place"):
        fold(AssociatorState(), sources(of))
