"""Folds: the same inputs give the same outputs, whoever kills the process, and whatever an input is."""

import asyncio
import contextlib
import hashlib

import msgspec
import numpy as np
import pytest

from trapline.common.ids import fact_id
from trapline.common.journal import PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import ArrivalOrder, Consumed
from trapline.schemas.examples import example_image, example_messages
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import POINTS, SCHEMA, Lightcurves
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.watchlist import POSITIONS, REMEASURE_SCHEMA, Remeasure
from waiting import until

IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))
POISON = 13


class Chain:
    """A fold whose every output depends on all inputs before it: a chain of hashes."""

    reads = ()
    reads_headers = ("images",)
    writes = ("lightcurves",)

    def order(self):
        return ArrivalOrder()

    def initial(self):
        return {"hash": b"", "n": 0}

    def step(self, state, inputs):
        (record,) = inputs.records
        number = record.place.seq
        if inputs.skipped:
            return
        state["n"] += 1
        state["hash"] = hashlib.sha256(state["hash"] + b"%d" % number).digest()
        if number == POISON:
            raise ValueError("poison")
        if number % 3 == 0:
            return
        image = msgspec.structs.replace(record.header.image, id=state["hash"][:16])
        header = Lightcurves(schema=SCHEMA, id=fact_id(0, "chain", state["hash"]), image=image)
        yield Message(header, POINTS.empty())

    def dump(self, state):
        return {"n": state["n"]}, {"hash": np.frombuffer(state["hash"], np.uint8)}

    def load(self, header, arrays):
        return {"n": header["n"], "hash": arrays["hash"].tobytes()}

    def counters(self, state):
        return {"chained": state["n"]}


def expected(count):
    """Return the output of an undisturbed run, without the poisoned input."""
    digest, chain = b"", []
    for number in range(count):
        if number == POISON:
            continue
        digest = hashlib.sha256(digest + b"%d" % number).digest()
        if number % 3:
            chain.append(digest[:16])
    return chain


class Asking(Chain):
    """A chain that asks for something with each input, which may leave later."""

    writes = ("lightcurves", "remeasure")

    def step(self, state, inputs):
        yield from super().step(state, inputs)
        place = inputs.records[0].place
        asked = fact_id(0, "ask", state["hash"])
        yield Message(Remeasure(schema=REMEASURE_SCHEMA, id=asked, image_place=place), POSITIONS.empty())


def said(config, channel="lightcurves"):
    reader, found = PartitionReader(config.journal_directory / channel / "0"), []
    while len(found) < reader.next_seq:
        slab = reader.slab(len(found), max_bytes=1 << 22, max_records=1000)
        found += [decode([slab.data[o : o + n] for o, n in e.spans]).header for e in slab.entries]
    return found


@pytest.fixture
async def images(config, relay):
    async with open_context("image_ingest", config, "0") as context:
        writer = context.outputs.writer("images")

        def append(count):
            for _ in range(count):
                image = msgspec.structs.replace(example_image(), id=fact_id(0, "image", writer.next_seq))
                header = msgspec.structs.replace(IMAGE.header, id=fact_id(0, "test", writer.next_seq))
                header.image = image
                writer.append(encode(Message(header, IMAGE.arrays)))

        yield append


@contextlib.asynccontextmanager
async def folding(config, *, kill=False, fold=None, ask_after_s=0.0):
    """Run the fold while the block lasts; end it in an orderly way, or as `kill -9` would."""
    async with open_context("associator", config, "0") as context:
        delay_s = lambda header: ask_after_s if isinstance(header, Remeasure) else 0.0  # noqa: E731
        runner = FoldRunner(context, fold or Chain(), delay_s=delay_s)
        work = asyncio.create_task(runner.run())
        yield context
        if kill:
            runner._save = asyncio.Event().wait  # whatever was not written by now never is
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        else:
            context.draining.set()
            await asyncio.wait_for(work, 20)


async def test_outputs_follow_from_inputs_and_name_them(config, relay, images):
    images(10)
    async with folding(config):
        await until(lambda: len(said(config)) == 6)
    assert [h.image.id for h in said(config)] == expected(10)
    assert [h.consumed for h in said(config)] == [[Place("images", "0", 0, s)] for s in (1, 2, 4, 5, 7, 8)]


async def test_a_restart_after_an_orderly_end_goes_on_from_the_snapshot(config, relay, images):
    for count in (5, 4):
        images(count)
        async with folding(config) as context:
            await until(lambda context=context, count=count: context.counters["steps"] == count)
    assert [h.image.id for h in said(config)] == expected(9)


@pytest.mark.parametrize("seed", range(3))
async def test_kills_at_any_time_change_nothing(config, relay, images, seed):
    random = np.random.default_rng(seed)
    total = 0
    for _ in range(6):
        count = int(random.integers(1, 12))
        images(count)
        total += count
        steps = int(random.integers(0, 3))
        async with folding(config, kill=True) as context:
            await until(lambda context=context, steps=steps: context.counters["steps"] >= steps)
            if random.random() < 0.5:
                await until((config.data_directory / "snapshots/associator-0.snapshot").exists)
    async with folding(config):
        await until(lambda: len(said(config)) == len(expected(total)), 60)
    assert [h.image.id for h in said(config)] == expected(total)
    assert len({h.id for h in said(config)}) == len(said(config)), "nothing is said twice"


async def test_an_output_that_was_said_but_not_yet_in_a_snapshot_is_not_said_again(config, relay, images):
    images(8)
    async with folding(config, kill=True):
        await until(lambda: len(said(config)) == 5)
    (config.data_directory / "snapshots/associator-0.snapshot").unlink(missing_ok=True)
    images(2)
    async with folding(config) as context:
        await until(lambda: len(said(config)) == 6)
        assert context.counters["steps"] == 10
    assert [h.image.id for h in said(config)] == expected(10)


class Deaf(Chain):
    """One that gets no inputs: it is behind what it said as long as it runs."""

    reads_headers = ()


async def test_a_snapshot_that_is_behind_what_was_said_does_not_make_it_said_again(config, relay, images):
    images(8)
    path = config.data_directory / "snapshots/associator-0.snapshot"
    async with folding(config, kill=True):
        await until(lambda: len(said(config)) == 5)
    path.unlink(missing_ok=True)
    async with folding(config, fold=Deaf()):
        await until(path.exists)
    images(2)
    async with folding(config):
        await until(lambda: expected(10)[-1] in [h.image.id for h in said(config)])
    assert [h.image.id for h in said(config)] == expected(10)


async def test_poison_is_noted_skipped_for_good_and_leaves_no_trace_in_the_state(config, relay, images):
    images(20)
    async with folding(config) as context:
        await until(lambda: len(said(config)) == len(expected(20)))
        assert "poison" in context.last_error
    assert [h.image.id for h in said(config)] == expected(20)
    (config.data_directory / "snapshots/associator-0.snapshot").unlink()
    images(3)
    async with folding(config) as context:
        await until(lambda: len(said(config)) == len(expected(23)))
        assert context.counters["dead_letters"] == 0
    assert [h.image.id for h in said(config)] == expected(23)
    letters = PartitionReader(config.journal_directory / "dead_letters" / "associator-0")
    assert letters.next_seq == 1


async def test_the_relay_is_told_what_is_safe_to_drop(config, relay, images):
    images(10)
    async with folding(config):
        await until(lambda: relay.core.readers.floor("images", "0") == 10)
        assert relay.core.readers.floor("lightcurves", "0") == 6


async def test_a_damaged_snapshot_is_refused_with_the_way_out(config, relay, images):
    images(3)
    async with folding(config) as context:
        await until(lambda: context.counters["steps"] == 3)
    path = config.data_directory / "snapshots/associator-0.snapshot"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    async with open_context("associator", config, "0") as context:
        with pytest.raises(ValueError, match=r"associator-0\.snapshot is damaged.*remove it to rebuild"):
            await FoldRunner(context, Chain()).run()


def test_what_was_consumed_out_of_order_closes_up():
    done = Consumed(floor=3)
    for seq in (5, 4, 7, 2):
        done.add(seq)
    assert (done.floor, done.above) == (3, {4, 5, 7})
    assert 4 in done and 2 in done and 3 not in done and 6 not in done
    done.add(3)
    assert (done.floor, done.above) == (6, {7})
    done.skip_to(7)
    assert (done.floor, done.above) == (8, set())


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_held_back_is_said_once_whoever_kills_the_process_meanwhile(config, relay, images, seed):
    random, total = np.random.default_rng(seed), 0
    for _ in range(6):
        images(count := int(random.integers(1, 4)))
        total += count
        async with folding(config, kill=True, fold=Asking(), ask_after_s=0.05 + random.random()) as context:
            await until(lambda context=context: context.counters["steps"] >= 1)
            if random.random() < 0.5:
                await until((config.data_directory / "snapshots/associator-0.snapshot").exists)
    async with folding(config, fold=Asking()):
        await until(lambda: len(said(config, "remeasure")) >= total)
    asked = [h.image_place.seq for h in said(config, "remeasure")]
    assert sorted(asked) == list(range(total))
    assert [h.image.id for h in said(config)] == expected(total)


async def test_nobody_takes_for_done_what_is_held_back(config, relay, images):
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update={"snapshot_s": 3600.0})})

    def position():
        reads = relay.core.info()["readers"]
        return max((r["seq"] for r in reads if r["channel"] == "images"), default=-1)

    images(2)
    async with folding(config, fold=Asking()):
        await until(lambda: position() == 2)
    images(2)
    async with folding(config, fold=Asking(), ask_after_s=1.0) as context:
        await until(lambda: context.counters["steps"] == 2 and len(said(config)) == 2)
        while len(said(config, "remeasure")) == 2:
            assert position() == 2
            await asyncio.sleep(0)
        await until(lambda: position() == 4)
    assert [h.image_place.seq for h in said(config, "remeasure")] == [0, 1, 2, 3]
