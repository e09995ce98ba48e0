"""What was announced beside what would be: one story per episode, also when a side opens it elsewhere or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finder_records import STEP_US, T0_US, forced, forked, record
from trapline.common.journal import JournalWriter
from trapline.schemas.columns import Link
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, encode
from trapline.transient_finder.comparison import Story
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.replay import replay

Records = Sequence[Message[Lightcurves]]
_PRESENCE = ("disappeared", "returned")
Write = Callable[..., Path]


def flux(number: int) -> float:
    """Return the flux of a star that rises slowly to a flare, twice."""
    return {0: 2.0, 1: 3.0, 2: 3.5}.get(number % 30 - 15, 3.0 if 15 <= number % 30 < 25 else 1.0)


def rules(**changes: Any) -> FinderConfig:
    """Return settings without variables, of which nothing is asked here."""
    return FinderConfig(**{"variable_min_points": 1000} | changes)


NIGHT = [record(k, [0, 1], [flux(k), 1.0]) for k in range(60)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return what writes the journals of a night: lightcurves from one record on, announcements from another."""

    def journals(records: Records, kept_from: int = 0, told_from: int = 0) -> Path:
        state, directory, told = FinderState(), tmp_path / "journal", 0
        with (
            JournalWriter(directory / "lightcurves" / "0") as kept,
            JournalWriter(directory / "transients" / "0") as out,
        ):
            for number, one in enumerate(records):
                if number >= kept_from:
                    kept.append(encode(one))
                for message in step(state, one, rules()).messages:
                    told += 1
                    if told > told_from:
                        out.append(encode(message))
        return directory

    return journals


def opened(story: Story) -> tuple[int | None, int | None]:
    """Return at which images both sides open a story."""
    return tuple(  # type: ignore[return-value]
        (told.start_us - T0_US) // STEP_US if told is not None and told.start_us else None
        for told in (story.was, story.would)
    )


def test_the_same_rules_over_the_same_night_differ_in_nothing(write: Write) -> None:
    stories = replay(write(NIGHT), rules()).stories
    assert [opened(s) for s in stories] == [(15, 15), (45, 45)]
    assert not any(s.differs or (s.cut and s.would is None) for s in stories)


def test_an_episode_that_opens_at_another_image_is_one_story(write: Write) -> None:
    directory = write(NIGHT)
    late = replay(directory, rules(flare_sigma=16.0)).stories
    assert [opened(s) for s in late] == [(15, 16), (45, 47)]
    assert [s.later_us for s in late] == [STEP_US, 2 * STEP_US]
    assert all(s.differs and s.outcomes == ("announced", "announced") for s in late)


@pytest.mark.parametrize("kept_from", [8, 10, 12])
def test_a_fold_that_begins_in_the_middle_is_told_from_other_rules(write: Write, kept_from: int) -> None:
    """With fewer than `min_points` points before the flare it opens when there are enough, or never."""
    done = replay(write(NIGHT, kept_from), rules())
    first, second = (s for s in done.stories if s.first.kind == "flare")
    assert opened(first)[0] == 15
    assert opened(first)[1] in (None, *range(16, 24))
    assert opened(second)[0] == 45
    assert all(s.cut for s in done.stories), "whatever else differs, the command says why it may"
    assert done.first_us == T0_US + kept_from * STEP_US


def test_a_stretch_that_begins_in_an_episode_shows_both_of_its_sides(write: Write) -> None:
    directory = write(NIGHT, 8)
    stories = replay(directory, rules(), since_us=T0_US + 17 * STEP_US).stories
    assert [opened(s) for s in stories if s.first.kind == "flare"] == [(15, 18), (45, 46)]
    assert stories[0].outcomes == ("announced", "announced")


def test_an_event_whose_announcement_is_gone_is_no_event_of_the_new_rules_alone(write: Write) -> None:
    done = replay(write(NIGHT, 0, told_from=1), rules())
    assert [(opened(s), s.outcomes) for s in done.stories][-1] == ((45, 45), ("announced", "announced"))
    first = done.stories[0]
    assert opened(first) == (15, 15) or first.was is not None


def test_what_disappears_again_is_another_story(write: Write) -> None:
    unseen = [forced(k, 0, misses=k % 10, header={"limit_high": 2.0}) for k in range(1, 9)]
    again = [forced(k, 0, misses=k % 10, header={"limit_high": 2.0}) for k in range(11, 19)]
    records = [record(0, 0, 5.0, link=int(Link.NEW)), *unseen, record(9, 0, 5.0), record(10, 0, 5.0), *again]
    stories = [s for s in replay(write(records), rules(disappeared_misses=7)).stories if s.first.kind in _PRESENCE]
    names = [(s.first.kind, *opened(s)) for s in stories]
    assert names == [("disappeared", 5, 7), ("returned", 9, 9), ("disappeared", 15, 17)]
    assert not any(s.cut for s in stories), "it was born in the journal"


def test_children_have_the_past_of_their_parent(write: Write) -> None:
    born = [record(0, 0, 1.0, link=int(Link.NEW)), *(record(k, 0, 1.0) for k in range(1, 12))]
    night = [
        *born,
        forked(12, 0, [10, 11], [1.0, 1.0]),
        *(record(k, 10, 9.0 if k == 15 else 1.0) for k in range(13, 20)),
    ]
    (whole,) = replay(write(night), rules()).stories
    assert opened(whole) == (15, 15)
    assert not whole.cut


def test_children_of_what_is_older_than_the_journal_are_cut(write: Write) -> None:
    steady = [record(k, 0, 1.0) for k in range(12)]
    night = [
        *steady,
        forked(12, 0, [10, 11], [1.0, 1.0]),
        *(record(k, 10, 9.0 if k == 15 else 1.0) for k in range(13, 20)),
    ]
    (story,) = replay(write(night, 6), rules()).stories
    assert opened(story)[0] == 15
    assert story.cut
