"""The extractor as a daemon with a real relay: the watchlist reaches it, requests are answered, whatever is gone."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import numpy as np
import pytest

from extractor_skies import grid_field, make_image, round_beam
from trapline.common.ids import fact_id
from trapline.common.journal import PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.columns import Flag, Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode
from trapline.schemas.sources import Sources
from trapline.schemas.status import DeadLetter
from trapline.schemas.watchlist import REMEASURE_SCHEMA, WATCHLIST_SCHEMA, Remeasure, Watchlist
from trapline.source_extractor.service import run
from waiting import until

IMAGE = make_image((200, 240), round_beam(4), margin_px=10, band=Band("test", 60e6, 1e5))
FIELD = grid_field(1, IMAGE, spacing_px=48, snr=(20, 90))
OBJECTS = [fact_id(0, "object", i) for i in range(3)]


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path, journal={"channels": {"images": {"segment_bytes": 1 << 18}}})


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
async def associator(config, relay):
    async with open_context("associator", config, "0") as context:
        yield context


@pytest.fixture
async def feed(config, relay):
    async with open_context("image_ingest", config, "0") as context:
        yield context


def image(number):
    header = Images(
        schema=IMAGES_SCHEMA,
        id=fact_id(0, "test", number),
        image=msgspec.structs.replace(IMAGE, id=fact_id(0, "image", number)),
    )
    return Message(header, {"pixels": FIELD.pixels})


def rows(kind, *objects):
    n = len(objects)
    return {
        "object_id": ids_to_array(objects),
        "ra_deg": np.full(n, 150.0),
        "dec_deg": np.full(n, 35.0),
        "kind": np.full(n, kind, np.uint8),
    }


def watchlist(version, *objects, full=True):
    header = Watchlist(schema=WATCHLIST_SCHEMA, id=fact_id(0, "watchlist", version), version=version, full=full)
    return Message(header, rows(Kind.FORCED, *objects))


def request(number, images_place, sources_place, *objects):
    header = Remeasure(
        schema=REMEASURE_SCHEMA,
        id=fact_id(0, "request", number),
        image_place=images_place,
        sources_place=sources_place,
    )
    return Message(header, rows(Kind.BACKFILL, *objects))


def published(config, channel):
    """Return (place, message) of all records of a channel."""
    found = []
    for directory in sorted((config.journal_directory / channel).glob("*")):
        reader = PartitionReader(directory)
        for seq in range(reader.first_seq, reader.next_seq):
            slab = reader.slab(seq, max_bytes=1, max_records=1)
            frames = [slab.data[o : o + n] for o, n in slab.entries[0].spans]
            found.append((Place(channel, directory.name, slab.entries[0].epoch, seq), decode(frames)))
    return found


@contextlib.asynccontextmanager
async def extracting(config):
    async with open_context("source_extractor", config, "0") as context:
        work = asyncio.create_task(run(context))
        yield context
        context.draining.set()
        await asyncio.wait_for(work, 20)


async def test_the_newest_list_is_measured_along_and_changes_reach_the_next_image(config, associator, feed):
    associator.outputs.append([watchlist(i, *OBJECTS) for i in range(30)])
    associator.outputs.append([watchlist(40, *OBJECTS[:2])])
    async with extracting(config):
        for number in range(300):
            feed.outputs.append([image(number)])
            await until(lambda number=number: len(published(config, "sources")) == number + 1)
            if published(config, "sources")[-1][1].header.watchlist_version == 40:
                break
        measured = published(config, "sources")[-1][1]
        forced = measured.arrays["kind"] == Kind.FORCED
        assert array_to_ids(measured.arrays["object_id"][forced]) == OBJECTS[:2]
        associator.outputs.append([watchlist(41, OBJECTS[2], full=False)])
        for more in range(number + 1, number + 300):
            feed.outputs.append([image(more)])
            await until(lambda more=more: len(published(config, "sources")) == more + 1)
            if published(config, "sources")[-1][1].header.watchlist_version == 41:
                break
        measured = published(config, "sources")[-1][1]
        forced = measured.arrays["kind"] == Kind.FORCED
        assert array_to_ids(measured.arrays["object_id"][forced]) == OBJECTS


async def test_requests_are_answered_also_when_the_pixels_are_gone_and_buried_when_all_is_gone(
    config, relay, associator, feed
):
    async with extracting(config):
        places = [feed.outputs.append([image(number)])[0] for number in range(3)]
        await until(lambda: len(published(config, "sources")) == 3)
        sources = {message.header.image.place: place for place, message in published(config, "sources")}
        associator.outputs.append([request(0, places[0], sources[places[0]], *OBJECTS[:2])])
        await until(lambda: len(published(config, "sources")) == 4)
        answer = published(config, "sources")[-1][1]
        assert isinstance(answer.header, Sources)
        assert answer.header.request == fact_id(0, "request", 0)
        assert answer.header.image.place == places[0]
        assert array_to_ids(answer.arrays["object_id"]) == OBJECTS[:2]
        assert np.isfinite(answer.arrays["flux_int"]).all()
        relay.core.catalogue.get("images", "0").drop_before(2)
        associator.outputs.append([request(1, places[0], sources[places[0]], *OBJECTS)])
        await until(lambda: len(published(config, "sources")) == 5)
        answer = published(config, "sources")[-1][1]
        assert np.isnan(answer.arrays["flux_int"]).all()
        assert ((answer.arrays["flags"] & Flag.NO_PIXELS) != 0).all()
        gone = Place("sources", "7", 0, 12)
        associator.outputs.append([request(2, places[0], gone, *OBJECTS)])
        associator.outputs.append([request(3, places[2], sources[places[2]], *OBJECTS)])
        await until(lambda: len(published(config, "sources")) == 6)
        await until(lambda: published(config, "dead_letters"))
        (_, letter) = published(config, "dead_letters")[0]
        assert isinstance(letter.header, DeadLetter)
        assert (letter.header.place.channel, letter.header.place.seq) == ("remeasure", 2)
        assert "sources/7@0:12" in letter.header.traceback
        assert published(config, "sources")[-1][1].header.request == fact_id(0, "request", 3)


async def test_a_watchlist_that_is_none_harms_nobody(config, associator, feed):
    associator.outputs.writer("watchlist").append([b"nonsense"])
    async with extracting(config) as context:
        for number in range(300):
            feed.outputs.append([image(number)])
            await until(lambda number=number: len(published(config, "sources")) == number + 1)
            if context.counters["watchlist_refused"]:
                break
        assert context.counters["watchlist_refused"] == 1
        assert not published(config, "dead_letters")
