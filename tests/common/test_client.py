"""The client of plug-ins: typed events, explicit gaps, publishing that can be repeated, a relay that comes and goes."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from trapline.client import Gap, connect
from trapline.common.channel import RelayRefusedError
from trapline.common.channel.memory import MemoryChannels
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.testing.mesh import memory_mesh, memory_mesh_async
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.examples import example_id, example_messages
from trapline.schemas.header import Place
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of
from waiting import wait_for

EXAMPLES = {schema_of(type(m.header)).channel: m for m in example_messages()}


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path)


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
def journal(config):
    """Append a message to partition 0 of the channel of its schema."""
    writers = {}

    def append(message):
        channel = schema_of(type(message.header)).channel
        if channel not in writers:
            writers[channel] = JournalWriter(config.journal_directory / channel / "0", segment_bytes=8192)
        writers[channel].append(encode(message))

    yield append
    for writer in writers.values():
        writer.close()


def test_an_event_has_the_fields_of_its_header_and_the_columns_of_its_tables():
    with memory_mesh() as mesh:
        mesh.publish(EXAMPLES["transients"], name="0")
        event = next(mesh.subscribe("transients", start="first"))
    assert (event.kind, event.ra_deg, event.band.name) == ("new_source", 359.95, "60.0-60.2 MHz")
    assert event.time.isot == "2026-01-01T00:00:00.000"
    assert event.place == Place("transients", "0", 0, 0)
    np.testing.assert_array_equal(event["recent.flux_int"], EXAMPLES["transients"].arrays["recent.flux_int"])
    with pytest.raises(AttributeError, match=r"no field 'colour'; it has .*event_id"):
        _ = event.colour
    with pytest.raises(KeyError, match=r"no array 'flux'; it has .*recent\.t_us"):
        _ = event["flux"]


@pytest.mark.parametrize("channel", EXAMPLES)
def test_every_channel_can_be_subscribed_and_says_when_it_was_observed(channel):
    with memory_mesh() as mesh:
        mesh.publish(EXAMPLES[channel], name="0")
        assert mesh.channels() == [channel]
        event = next(mesh.subscribe(channel, start="first"))
    assert event.header.schema == schema_of(type(EXAMPLES[channel].header)).schema
    timed = channel not in ("watchlist", "remeasure", "dead_letters", "schemas")
    assert (event.time is not None) == timed


def test_the_time_is_right_on_a_day_with_a_leap_second():
    noon_us = 1_483_185_600_000_000  # 2016-12-31T12:00:00 UTC; that day had 86,401 s
    message = EXAMPLES["transients"]
    at_noon = Message(msgspec.structs.replace(message.header, t_us=noon_us), message.arrays)
    with memory_mesh() as mesh:
        mesh.publish(at_noon, name="0")
        event = next(mesh.subscribe("transients", start="first"))
    assert event.time.isot == "2016-12-31T12:00:00.000"


def test_two_channels_at_once():
    with memory_mesh() as mesh:
        mesh.publish(EXAMPLES["transients"], name="0")
        mesh.publish(EXAMPLES["status"], name="0")
        events = list(itertools.islice(mesh.subscribe("transients", "status", start="first"), 2))
    assert {event.place.channel for event in events} == {"transients", "status"}


def test_the_latest_start_waits_for_what_comes(relay, journal):
    journal(EXAMPLES["transients"])
    with connect(relay.address) as mesh:
        stream = mesh.subscribe("transients", "images", start="latest")
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(next, stream)
            wait_for(lambda: relay.core.n_waiting, what="the subscription")
            journal(EXAMPLES["images"])
            assert waiting.result(20).place.channel == "images"


def test_what_was_lost_is_a_gap_when_asked_for_and_else_a_warning(journal, config, capsys):
    for _ in range(20):
        journal(EXAMPLES["images"])
    # Before there is a relay: what one has mapped it still serves.
    PartitionReader(config.journal_directory / "images" / "0").drop_before(15)
    with running_relay(config) as relay, connect(relay.address) as mesh:
        gap = next(mesh.subscribe("images", start=2, gaps=True))
        assert isinstance(gap, Gap)
        assert (gap.first_seq, gap.reason) == (2, "retention") and gap.end_seq > 2
        event = next(mesh.subscribe("images", start=2))
        assert event.place.seq == gap.end_seq
    assert "records were lost" in "".join(capsys.readouterr())


def test_publishing_twice_changes_nothing_and_others_read_it(relay):
    message = EXAMPLES["transients"]
    other = Message(msgspec.structs.replace(message.header, id=example_id(99)), message.arrays)
    with connect(relay.address) as mesh:
        places = [mesh.publish(m, name="laptop", channel="follow_up") for m in (message, message, other)]
        assert [place.seq for place in places] == [0, 0, 1]
        events = list(itertools.islice(mesh.subscribe("follow_up", start="first"), 2))
    assert [event.place for event in events] == [places[0], places[2]]


def test_a_publisher_with_a_wrong_name_is_refused_with_the_reason(relay):
    with connect(relay.address) as mesh, pytest.raises(RelayRefusedError, match="partition"):
        mesh.publish(EXAMPLES["transients"], name="../laptop")


def test_a_client_waits_for_a_relay_that_is_not_there_and_says_so_once(config, journal, capsys):
    journal(EXAMPLES["transients"])
    with connect(f"ipc://{config.ipc_path}") as mesh:
        stream = mesh.subscribe("transients", start="first")
        waiting = asyncio.run_coroutine_threadsafe(anext(_plain(mesh, "transients")), mesh._loop)
        with pytest.raises(TimeoutError):
            waiting.result(5)
        waiting.cancel()
        with running_relay(config):
            assert next(stream).kind == "new_source"
    assert "".join(capsys.readouterr()).count("waiting for the relay") == 1


def _plain(mesh, channel):
    return mesh._mesh.subscribe(channel, start="first")


async def test_the_asyncio_form_has_the_same_calls():
    channels = MemoryChannels()
    async with memory_mesh_async(channels) as other, memory_mesh_async(channels) as mesh:
        await other.publish(EXAMPLES["transients"], name="0")
        assert await mesh.channels() == ["transients"]
        async for event in mesh.subscribe("transients", start="first"):
            assert event.kind == "new_source"
            break
        place = await mesh.publish(EXAMPLES["status"], name="me")
    assert place == Place("status", "me", 0, 0)


def test_leaving_in_the_middle_of_a_wait_is_quick(relay):
    with connect(relay.address) as mesh:
        stream = mesh.subscribe("transients")
        pending = asyncio.run_coroutine_threadsafe(anext(mesh._mesh.subscribe("transients")), mesh._loop)
        pending.cancel()
        del stream
