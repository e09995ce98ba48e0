"""Fold order: that of the images, whatever the replicas do, and again the same after a restart."""

import msgspec
import numpy as np
import pytest

from trapline.associator.order import ImageOrder
from trapline.common.channel import Record
from trapline.common.ids import fact_id
from trapline.schemas.examples import example_image
from trapline.schemas.header import Place
from trapline.schemas.images import SCHEMA as IMAGES
from trapline.schemas.images import Command, Images
from trapline.schemas.message import Message, encode
from trapline.schemas.sources import COLUMNS, Sources
from trapline.schemas.sources import SCHEMA as SOURCES
from trapline.schemas.status import DEAD_LETTERS_SCHEMA, DeadLetter
from trapline.schemas.watchlist import POSITIONS, REMEASURE_SCHEMA, Remeasure


def record(place, header, arrays=None):
    return Record(place, 0, encode(Message(header, arrays or {})))


def image(seq, partition="0", t_us=None, **more):
    place = Place("images", partition, 0, seq)
    t_us = 1_000_000 * seq if t_us is None else t_us
    described = msgspec.structs.replace(example_image(), id=fact_id(t_us, "image", partition, seq), t_start_us=t_us)
    return record(place, Images(schema=IMAGES, id=fact_id(t_us, "r", partition, seq), image=described, **more))


def command(seq):
    asked = Command(name="monitor_add", object_id=bytes(16))
    return record(Place("images", "0", 0, seq), Images(schema=IMAGES, id=fact_id(0, "c", seq), command=asked))


def end(seq, partition="0"):
    header = Images(schema=IMAGES, id=fact_id(0, "end", partition, seq), end_of_stream=True)
    return record(Place("images", partition, 0, seq), header)


def sources(seq, of, partition="0"):
    described = msgspec.structs.replace(of.header.image, place=of.place)
    header = Sources(schema=SOURCES, id=fact_id(0, "s", described.id), image=described)
    return record(Place("sources", partition, 0, seq), header, COLUMNS.empty())


def dead_letter(seq, of, service="source_extractor"):
    header = DeadLetter(
        schema=DEAD_LETTERS_SCHEMA, id=fact_id(0, "d", seq), service=service, place=of.place, traceback=""
    )
    return record(Place("dead_letters", f"{service}-0", 0, seq), header)


def order(**options):
    made = ImageOrder(**({"max_hold_s": None, "idle_after_s": None} | options))
    made.seen([("images", "0")], caught_up=True)
    return made


def steps(order, now=0.0):
    found = []
    while (step := order.take(now)) is not None:
        found.append(step)
    return found


def images_of(steps):
    return [(step.records[0].place.partition, step.records[0].place.seq) for step in steps]


@pytest.mark.parametrize("seed", range(20))
def test_images_are_taken_in_their_order_however_sources_arrive(seed):
    random = np.random.default_rng(seed)
    images = [image(i) for i in range(12)]
    measured = [sources(i // 2, images[j], str(i % 2)) for i, j in enumerate(random.permutation(12))]
    waiting = {"images": list(images), "0": measured[0::2], "1": measured[1::2]}
    made, taken = order(), []
    while any(waiting.values()):
        name = random.choice([name for name, records in waiting.items() if records])
        made.offer(waiting[name].pop(0))
        taken += steps(made)
    assert images_of(taken) == [("0", i) for i in range(12)]
    for step in taken:
        assert step.records[1].header.image.id == step.records[0].header.image.id
        assert not step.late and not step.skipped
    assert made.buffered() == 0
    assert {key: done.floor for key, done in made.progress().items()} == {
        ("images", "0"): 12,
        ("sources", "0"): 6,
        ("sources", "1"): 6,
    }


def test_a_command_takes_its_place_among_the_images():
    made = order()
    first, last = image(0), image(2)
    for r in (sources(0, first), first, command(1), sources(1, last), last):
        made.offer(r)
    assert [len(step.records) for step in steps(made)] == [2, 1, 2]


def test_of_several_partitions_the_earliest_observation_is_next_and_ties_go_by_partition():
    made = order()
    made.seen([("images", "1")], caught_up=True)
    a = [image(0, "0", t_us=10), image(1, "0", t_us=30)]
    b = [image(0, "1", t_us=10), image(1, "1", t_us=20), image(2, "1", t_us=30)]
    for i, r in enumerate([*b, *a]):
        made.offer(sources(i, r))
    for r in b:
        made.offer(r)
    assert steps(made) == [], "partition 0 may have an earlier one"
    for r in a:
        made.offer(r)
    assert images_of(steps(made)) == [("0", 0), ("1", 0), ("1", 1), ("0", 1)]
    made.offer(end(2, "0"))
    assert images_of(steps(made)) == [("1", 2)]


def test_a_silent_partition_is_waited_for_only_so_long():
    made = order(idle_after_s=30.0)
    made.seen([("images", "1")], caught_up=True)
    one = image(0)
    made.offer(one)
    made.offer(sources(0, one))
    assert steps(made, 29.0) == []
    assert images_of(steps(made, 31.0)) == [("0", 0)]


def test_an_image_is_held_only_so_long_once_later_ones_are_there_and_comes_late():
    made = order(max_hold_s=10.0)
    slow, quick = image(0), image(1)
    made.offer(slow)
    made.offer(quick)
    assert steps(made, 100.0) == [], "nothing later has come yet"
    made.offer(sources(0, quick))
    assert steps(made, 101.0) == []
    assert images_of(steps(made, 112.0)) == [("0", 1)]
    made.offer(sources(1, slow))
    (late,) = steps(made, 113.0)
    assert late.late and late.records[0].place.seq == 0
    assert made.progress()["images", "0"].floor == 2


def test_the_first_result_of_an_image_stands_and_a_second_is_passed_over():
    made = order()
    one = image(0)
    for r in (one, sources(0, one, "0"), sources(0, one, "1")):
        made.offer(r)
    assert len(steps(made)) == 1
    made.offer(sources(1, one, "1"))
    assert steps(made) == [] and made.buffered() == 0
    assert made.progress()["sources", "1"].floor == 2


def test_a_dead_letter_ends_the_wait_once_all_sources_were_read():
    made = order()
    dead, alive = image(0), image(1)
    for r in (dead, alive, sources(0, alive), dead_letter(0, dead), dead_letter(0, alive, "database_dumper")):
        made.offer(r)
    assert steps(made) == [], "its sources may be on their way"
    made.seen([("sources", "0"), ("dead_letters", "source_extractor-0")], caught_up=False)
    assert steps(made) == []
    made.seen([("sources", "0"), ("dead_letters", "source_extractor-0")], caught_up=True)
    assert steps(made) == [], "at another host it may have been read before"
    made.seen([("sources", "0"), ("dead_letters", "source_extractor-0")], caught_up=True)
    assert [len(step.records) for step in steps(made)] == [1, 2]


@pytest.mark.parametrize("service", ["source_extractor", "my_extractor"])
def test_a_request_is_given_up_when_whoever_measures_gives_it_up_and_nobody_else(service):
    asked = Remeasure(schema=REMEASURE_SCHEMA, id=bytes(16), image_place=image(0).place)
    request = record(Place("remeasure", "0", 0, 3), asked, POSITIONS.empty())
    made = order(extractors=("source_extractor", "my_extractor"))
    made.offer(dead_letter(0, request, "reads_along"))
    made.offer(dead_letter(1, request, service))
    for _ in range(2):
        assert steps(made) == []
        made.seen([("sources", "0"), ("dead_letters", f"{service}-0")], caught_up=True)
    (given_up,) = steps(made)
    assert given_up.records[0].header.service == service
    assert made.buffered() == 0


def test_sources_that_came_before_the_dead_letter_was_believed_win():
    made = order()
    one = image(0)
    for r in (one, dead_letter(0, one), sources(0, one)):
        made.offer(r)
    made.seen([("sources", "0")], caught_up=True)
    assert [len(step.records) for step in steps(made)] == [2]


def test_noted_sources_are_marked_and_their_image_is_taken():
    made = order()
    one = image(0)
    made.skip([Place("sources", "0", 7, 0)])
    made.offer(one)
    made.offer(sources(0, one))
    (step,) = steps(made)
    assert step.skipped


def run(records, seed, *, max_hold_s, decided=(), progress=None):
    """Offer records in a random order with a random clock, and return the steps."""
    random = np.random.default_rng(seed)
    made = order(max_hold_s=max_hold_s)
    if progress:
        made.restore(progress)
    made.follow(decided)
    waiting = {name: list(rs) for name, rs in records.items()}
    taken, now = [], 0.0
    while any(waiting.values()):
        name = random.choice([name for name, rs in waiting.items() if rs])
        made.offer(waiting[name].pop(0))
        now += float(random.exponential(2.0))
        taken += steps(made, now)
    return taken + steps(made, now)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_decided_is_repeated_after_a_restart_whatever_the_clock_says_now(seed):
    random = np.random.default_rng(seed)
    images = [image(i) for i in range(15)]
    shuffled = [images[i] for i in np.argsort(np.arange(15) + random.normal(0, 3, 15))]
    records = {"images": [*images, end(15)], "sources": [sources(i, r) for i, r in enumerate(shuffled)]}
    before = run(records, seed + 100, max_hold_s=1.0)
    assert sorted(images_of(before)) == [("0", i) for i in range(15)]
    cut = int(random.integers(1, 15))
    after = run(records, seed + 200, max_hold_s=1.0, decided=[step.places for step in before[:cut]])
    assert [step.places for step in after[:cut]] == [step.places for step in before[:cut]]
    assert [step.late for step in after[:cut]] == [step.late for step in before[:cut]]
    assert sorted(images_of(after)) == [("0", i) for i in range(15)]


def test_images_that_are_ready_go_before_answers_and_every_other_time_an_answer_is_taken():
    made, images = order(), [image(seq) for seq in range(3)]
    for seq in range(5):
        asked = sources(seq, images[0]).header
        answer = msgspec.structs.replace(asked, request=fact_id(0, "ask", seq))
        made.offer(record(Place("sources", "0", 0, seq), answer, COLUMNS.empty()))
    for seq, one in enumerate(images):
        made.offer(one)
        made.offer(sources(seq, one, "1"))
    taken = [step.places[0] for step in steps(made)]
    assert [place.channel for place in taken] == ["images", "sources"] * 3 + ["sources"] * 2
    assert [place.seq for place in taken] == [0, 0, 1, 1, 2, 2, 3, 4]
