"""A real relay and real clients: reading, leasing, publishing, and what garbage on the port does (nothing)."""

import asyncio
import os
import select
import socket
import threading

import numpy as np
import pytest
import zmq

from trapline.common.channel import (
    ChannelReader,
    Gap,
    GroupMember,
    RelayConnection,
    RelayRefusedError,
    RelayUnreachableError,
)
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.relay.process import make_server
from trapline.common.relay.requests import Find, Info, Tick
from trapline.common.testing.relay import mesh_config, running_relay


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path)


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


def writer(config, name, **options):
    return JournalWriter(config.journal_directory / name, **options)


async def read_until(reader, count):
    """Return items until there are `count` of them."""
    items = []
    async with asyncio.timeout(20):
        while len(items) < count:
            items += await reader.read(1.0)
    return items


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_what_is_appended_arrives_whole_and_in_order(config, relay, transport):
    address = relay.address if transport == "tcp" else f"ipc://{config.ipc_path}"
    payloads = [os.urandom(n) for n in (0, 1, 1000, 3_000_000, 70_000)] * 4
    with writer(config, "images/0", segment_bytes=8 << 20) as images:
        async with RelayConnection(address) as connection:
            reader = ChannelReader(connection, ("images",))
            assert await reader.read(0) == []
            reading = asyncio.create_task(read_until(reader, len(payloads)))
            for i, payload in enumerate(payloads):
                images.append([b"%d" % i, payload])
                connection.notify(Tick(channel="images", partition="0"))
            records = await reading
    assert [record.place.seq for record in records] == list(range(len(payloads)))
    assert [bytes(record.frames[1]) for record in records] == payloads


async def test_a_notice_does_not_take_the_news_of_an_answer(relay):
    """The socket tells once that something has come: whoever else uses it then must pass it on."""
    async with RelayConnection(relay.address) as connection:
        await connection.request(Info())
        for _ in range(20):
            asking = asyncio.ensure_future(connection.request(Info()))
            await asyncio.sleep(0)  # it is sent
            # The loop stands still while the answer comes; where it came at once, nobody need be told.
            select.select([connection._socket.getsockopt(zmq.FD)], [], [], 0.1)
            connection.notify(Tick(channel="images", partition="0"))
            await asking


async def test_received_arrays_are_views_of_the_received_buffer(config, relay):
    with writer(config, "images/0") as images:
        images.append([b"head", np.arange(1000, dtype=np.float32).tobytes()])
        async with RelayConnection(relay.address) as connection:
            reader = ChannelReader(connection, ("images",))
            (record,) = await read_until(reader, 1)
            pixels = np.frombuffer(record.frames[1], np.float32)
            assert pixels[999] == 999
            whole = np.frombuffer(record.frames[0].obj, np.uint8)
            assert np.shares_memory(whole, pixels)


async def test_without_a_tick_records_arrive_by_polling(config, relay):
    with writer(config, "images/0") as images:
        async with RelayConnection(relay.address) as connection:
            reader = ChannelReader(connection, ("images",))
            reading = asyncio.create_task(read_until(reader, 1))
            images.append([b"x"])
            assert len(await reading) == 1


async def test_readers_begin_where_they_are_told(config, relay):
    times = iter(range(1_000_000, 99_000_000, 1_000_000))
    with writer(config, "images/0", clock=lambda: next(times)) as images:
        for i in range(10):
            images.append([b"%d" % i])
        async with RelayConnection(relay.address) as connection:
            starts = {"first": 0, "latest": 10, 4: 4, 99: 10, "1970-01-01T00:00:06": 5, "1970-01-01T00:00:05.5Z": 5}
            for start, expected in starts.items():
                reader = ChannelReader(connection, ("images",), start=start)
                await reader.discover()
                assert reader.cursors["images", "0"].seq == expected, start
            with pytest.raises(ValueError, match="not a start"):
                await ChannelReader(connection, ("images",), start="yesterday").read(0)
            find = Find(channel="images", partition="0", t_us=3_500_000)
            assert (await connection.request(find)).values["seq"] == 3


async def test_a_partition_that_appears_later_is_read_from_its_first_record(config, relay):
    with writer(config, "sources/0") as first:
        first.append([b"a"])
        async with RelayConnection(relay.address) as connection:
            reader = ChannelReader(connection, ("sources",), start="latest")
            assert await reader.read(0) == []
            with writer(config, "sources/1") as second:
                second.append([b"b"])
                (record,) = await read_until(reader, 1)
            assert (record.place.partition, bytes(record.frames[0])) == ("1", b"b")


async def test_a_busy_partition_does_not_starve_another(config, relay):
    with writer(config, "images/0", segment_bytes=8 << 20) as busy, writer(config, "images/1") as quiet:
        for _ in range(50):
            busy.append([bytes(100_000)])
        quiet.append([b"x"])
        async with RelayConnection(relay.address) as connection:
            reader = ChannelReader(connection, ("images",), max_bytes=200_000)
            first_two = [*await reader.read(1), *await reader.read(1)]
            assert {record.place.partition for record in first_two} == {"0", "1"}
            assert not reader.caught_up
            await read_until(reader, 51 - len(first_two))
            await reader.read(0)
            assert reader.caught_up


async def test_a_reader_behind_retention_gets_an_explicit_gap(config):
    with writer(config, "images/0", segment_bytes=4096) as images:
        for i in range(20):
            images.append([b"%d" % i, bytes(1500)])
        # Before a relay maps it: what it has mapped it can still serve.
        PartitionReader(images.directory).drop_before(10)
        with running_relay(config) as relay:
            async with RelayConnection(relay.address) as connection:
                reader = ChannelReader(connection, ("images",), start=3)
                gap, *records = await read_until(reader, 2)
                first = records[0].place.seq
                assert gap == Gap("images", "0", 3, first, "retention")
                records += await read_until(reader, 20 - first - len(records))
                assert [r.place.seq for r in records] == list(range(first, 20))


async def test_two_members_of_a_group_share_and_lose_nothing(config, relay):
    with writer(config, "images/0") as images:
        for i in range(40):
            images.append([b"%d" % i])
        seen = {"a": [], "b": []}
        async with RelayConnection(relay.address) as one, RelayConnection(relay.address) as two:

            async def work(connection, name):
                member = GroupMember(connection, "g", name, ("images",))
                while records := await member.lease(3, wait_s=0.2):
                    seen[name] += [record.place.seq for record in records]
                    await member.ack(records)

            await asyncio.gather(work(one, "a"), work(two, "b"))
    assert sorted(seen["a"] + seen["b"]) == list(range(40))
    assert seen["a"] and seen["b"]


async def test_an_unknown_partition_is_refused_with_what_there_is(config, relay):
    with writer(config, "images/0"):
        async with RelayConnection(relay.address) as connection:
            with pytest.raises(RelayRefusedError, match=r"no partition images/9; there are images/0"):
                await connection.request(Find(channel="images", partition="9", t_us=0))


async def test_a_relay_that_is_not_there_is_a_clear_error():
    async with RelayConnection("tcp://127.0.0.1:9") as connection:
        with pytest.raises(RelayUnreachableError, match=r"no answer.*127\.0\.0\.1:9.*is it running"):
            await connection.request(Info(), timeout_s=0.2)


async def test_a_wrong_address_is_a_clear_error():
    with pytest.raises(ValueError, match="not an address"):
        async with RelayConnection("telescope"):
            pass


async def test_a_reader_goes_on_when_the_relay_comes_back(config):
    with writer(config, "images/0") as images:
        images.append([b"0"])
        async with RelayConnection(f"ipc://{config.ipc_path}") as connection:
            with running_relay(config):
                reader = ChannelReader(connection, ("images",))
                assert len(await read_until(reader, 1)) == 1
            images.append([b"1"])
            with pytest.raises(RelayUnreachableError):
                await reader.read(0)
            with running_relay(config):
                (record,) = await read_until(reader, 1)
            assert record.place.seq == 1


def test_a_port_in_use_is_refused_with_the_way_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = mesh_config(tmp_path, relay={"port": port})
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*choose another"):
            make_server(config)


def test_a_second_relay_on_the_same_data_is_refused_and_the_first_goes_on(config, relay):
    with pytest.raises(OSError, match=r"another mesh runs on .*; stop it"):
        make_server(config)


async def test_clients_that_vanish_in_the_middle_of_a_wait_leave_nothing(config, relay):
    with writer(config, "images/0") as images:
        for _ in range(20):
            connection = RelayConnection(relay.address)
            await connection.__aenter__()
            member = GroupMember(connection, "g", "gone", ("images",))
            waiting = asyncio.create_task(member.lease(1, wait_s=30))
            # It gets what the one before had not taken when it vanished.
            while relay.core.n_waiting == 0 and not waiting.done():
                await asyncio.sleep(0)
            waiting.cancel()
            await connection.__aexit__()
            images.append([b"x"])
            async with asyncio.timeout(10):
                while relay.core.n_waiting:
                    await asyncio.sleep(0)
        async with RelayConnection(relay.address) as connection:
            member = GroupMember(connection, "g", "here", ("images",))
            got = []
            async with asyncio.timeout(20):
                while len(got) < 20:
                    records = await member.lease(20, wait_s=1)
                    await member.ack(records)
                    got += [record.place.seq for record in records]
    assert sorted(got) == list(range(20))


def test_the_relay_stops_at_once_when_told(config):
    before = threading.active_count()
    with running_relay(config):
        pass
    assert threading.active_count() == before
