"""Workers: every record is handled, its output is there before it is acknowledged, poison does not stop the stream."""

import asyncio
import contextlib
import os
import threading

import msgspec
import pytest

from trapline.common.channel.nearby import Nearby
from trapline.common.ids import fact_id
from trapline.common.journal import PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.worker import Worker
from trapline.schemas.examples import example_image, example_messages
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, decode_header, encode
from trapline.schemas.sources import COLUMNS, SCHEMA, Sources
from trapline.schemas.status import DeadLetter
from trapline.schemas.watchlist import Remeasure
from waiting import until

IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))


def image_frames(number):
    header = msgspec.structs.replace(IMAGE.header, id=fact_id(0, "test", number))
    header.image = msgspec.structs.replace(example_image(), id=fact_id(0, "image", number))
    return encode(Message(header, IMAGE.arrays))


def measured(record):
    """Return an empty `sources` record of an image."""
    image = msgspec.structs.replace(record.header.image, place=record.place)
    return Message(Sources(schema=SCHEMA, id=fact_id(0, "sources", record.place.seq), image=image), COLUMNS.empty())


def headers(config, channel):
    """Return the headers of all records of a channel, over its partitions."""
    found = []
    for directory in sorted((config.journal_directory / channel).glob("*")):
        reader, seq = PartitionReader(directory), 0
        while seq < reader.next_seq:
            slab = reader.slab(seq, max_bytes=1 << 24, max_records=10_000)
            found += [decode_header(slab.data[e.spans[0][0] : sum(e.spans[0])]) for e in slab.entries]
            seq += len(slab.entries)
    return found


@contextlib.asynccontextmanager
async def working(config, handler, replica="0"):
    async with open_context("source_extractor", config, replica) as context:
        work = asyncio.create_task(Worker(context, handler, ("images",)).run())
        yield context, work
        context.draining.set()
        await asyncio.wait_for(work, 20)


def floor(relay):
    return relay.core.groups.share("source_extractor", "images", "0").floor


@pytest.fixture
async def images(config, relay):
    async with open_context("image_ingest", config, "0") as context:
        writer = context.outputs.writer("images")
        yield lambda *numbers: writer.append_many([image_frames(n) for n in numbers])


async def test_every_record_is_handled_once_and_acknowledged_after_its_output(config, relay, images):
    images(*range(30))
    seen = []

    def handle(record):
        seen.append(record.place.seq)
        return [measured(record)]

    async with working(config, handle):
        await until(lambda: floor(relay) == 30)
        assert len(headers(config, "sources")) == 30
    assert seen == list(range(30))
    found = headers(config, "sources")
    assert [h.image.place for h in found] == [Place("images", "0", 0, seq) for seq in range(30)]
    assert {h.producer for h in found} == {"source_extractor/0"}
    assert all(h.config and h.t_pub_us for h in found)


async def test_the_handler_sees_the_pixels_without_a_copy(config, relay, images):
    images(1)
    seen = []

    def handle(record):
        pixels = decode(record.frames).arrays["pixels"]
        seen.append((pixels.copy(), pixels.flags.owndata))
        return []

    async with working(config, handle):
        await until(lambda: seen)
    assert (seen[0][0] == IMAGE.arrays["pixels"]).all()
    assert not seen[0][1]


async def test_poison_becomes_a_dead_letter_with_its_traceback_and_the_probe_behind_it_is_handled(
    config, relay, images
):
    images(0, 1, 2)

    def handle(record):
        if record.place.seq == 1:
            raise ZeroDivisionError("poison")
        return [measured(record)]

    async with working(config, handle) as (context, _):
        await until(lambda: floor(relay) == 3)
        assert context.counters["handler_errors"] == config.runtime.max_attempts
        assert "poison" in context.last_error
    assert [h.image.place.seq for h in headers(config, "sources")] == [0, 2] or len(headers(config, "sources")) == 2
    (letter,) = headers(config, "dead_letters")
    assert isinstance(letter, DeadLetter)
    assert (letter.place.seq, letter.attempts) == (1, config.runtime.max_attempts)
    assert "ZeroDivisionError: poison" in letter.traceback
    assert letter.image_id == fact_id(0, "image", 1)
    assert decode_header(letter.input).id == fact_id(0, "test", 1)


async def test_a_record_that_is_no_message_becomes_a_dead_letter(config, relay, images):
    async with open_context("image_ingest", config, "junk") as context:
        context.outputs.writer("images").append_many([[b"\xc1"], [], [b"", b"x"]])
        async with working(config, lambda record: [measured(record)] if record.header else []):
            await until(lambda: len(headers(config, "dead_letters")) == 3)


async def test_output_that_is_not_what_its_schema_says_is_the_handlers_fault(config, relay, images):
    images(0, 1)

    def handle(record):
        message = measured(record)
        return [message if record.place.seq else Message(message.header, {})]

    async with working(config, handle):
        await until(lambda: floor(relay) == 2)
    assert [h.image.place.seq for h in headers(config, "sources")] == [1]
    assert "'source_id' is missing" in headers(config, "dead_letters")[0].traceback


async def test_draining_finishes_the_record_in_hand_and_gives_back_the_next(config, relay, images):
    images(0, 1, 2)
    entered, leave = threading.Event(), threading.Event()

    def handle(record):
        entered.set()
        assert leave.wait(20)
        return [measured(record)]

    async with working(config, handle) as (context, work):
        await until(entered.is_set)
        context.draining.set()
        leave.set()
        await asyncio.wait_for(work, 20)
        assert [h.image.place.seq for h in headers(config, "sources")] == [0]
        assert floor(relay) == 1
        assert not relay.core.groups.share("source_extractor", "images", "0").leases
    async with working(config, lambda record: [measured(record)], "1"):
        await until(lambda: floor(relay) == 3)


async def test_a_handler_longer_than_a_lease_keeps_its_record(config, relay, images):
    images(0)
    leave = threading.Event()
    calls = []

    def handle(record):
        calls.append(record.place.seq)
        assert leave.wait(20)
        return [measured(record)]

    async with working(config, handle), working(config, handle, "1"):
        expired = relay.core.counters
        await until(lambda: relay.core.counters["requests_extend"] >= 8)
        assert expired["leases_expired"] == 0
        leave.set()
        await until(lambda: floor(relay) == 1)
    assert calls == [0]


async def test_a_worker_that_vanishes_loses_its_record_to_another(config, relay, images):
    images(0, 1)
    stuck = threading.Event()

    def hang(record):
        assert stuck.wait(20)
        return []

    async with open_context("source_extractor", config, "0") as context:
        lost = asyncio.create_task(Worker(context, hang, ("images",)).run())
        await until(lambda: relay.core.groups.share("source_extractor", "images", "0").leases)
        context.connection.notify = lambda _: None  # from here on it is as if the process were stopped
        async with working(config, lambda record: [measured(record)], "1"):
            await until(lambda: floor(relay) == 2)
        assert relay.core.counters["leases_expired"] >= 1
        stuck.set()
        context.draining.set()
        await asyncio.wait_for(lost, 20)


async def test_a_worker_waits_for_a_relay_that_is_not_there_and_says_why(config):
    async with working(config, lambda _: []) as (context, _):
        await until(lambda: context.state == "waiting")
        assert "no answer from the relay" in context.last_error


ASK = next(m for m in example_messages() if isinstance(m.header, Remeasure))


@pytest.fixture
async def requests(config, relay):
    async with open_context("associator", config, "0") as context:
        frames = [
            encode(Message(msgspec.structs.replace(ASK.header, id=fact_id(0, "ask", n)), ASK.arrays)) for n in range(9)
        ]
        context.outputs.writer("remeasure").append_many(frames)
        yield


@pytest.mark.usefixtures("requests")
async def test_what_stands_behind_waits_for_images_that_come_later_and_leaves_others_the_processor(config, images):
    gate, handled, niceness = threading.Event(), [], {}

    def handle(record):
        niceness.setdefault(record.place.channel, os.nice(0))
        handled.append((record.place.channel, record.place.seq, record.message.arrays.keys()))
        if record.place.channel == "remeasure":
            gate.wait(20)
        return []

    async with open_context("source_extractor", config, "0") as context:
        nearby = Nearby(config.journal_directory)
        worker = Worker(context, handle, ("images", "remeasure"), behind=("remeasure",), nearby=nearby)
        work = asyncio.create_task(worker.run())
        await until(lambda: handled)
        images(*range(5))
        await until(lambda: worker._hands.lots[0].waiting)
        gate.set()
        await until(lambda: len({place[:2] for place in handled}) == 14)
        context.draining.set()
        await asyncio.wait_for(work, 20)
    assert [channel for channel, _, _ in handled[:2]] == ["remeasure", "images"]
    order = list(dict.fromkeys((channel, seq) for channel, seq, _ in handled))
    assert [seq for channel, seq in order if channel == "images"] == list(range(5))
    # Pixels that are on this host do not travel, and are there.
    assert all(names == IMAGE.arrays.keys() for channel, _, names in handled if channel == "images")
    assert niceness == {"images": os.nice(0), "remeasure": min(19, os.nice(0) + 10)}
