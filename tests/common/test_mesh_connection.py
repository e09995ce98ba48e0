"""The relays of several hosts as one: whose partitions are whose, and what if one is away, slow or has a clash."""

import asyncio
import contextlib
import threading

import pytest

from contract_records import at, fetch, number_of, record
from hostile.zmtp import Wire
from relay_process import free_port
from trapline.common.channel import ChannelReader, GroupMember, RelayConnection, RelayUnreachableError
from trapline.common.channel.lookup import record_at
from trapline.common.channel.mesh import MeshConnection
from trapline.common.config import ConfigError
from trapline.common.journal import JournalWriter
from trapline.common.relay.requests import Ack, Item, Position, Read
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.header import Place
from waiting import until


class Host:
    """A host: its journals, and a relay that can be stopped and started on the same port."""

    def __init__(self, directory, name):
        self.name, self.port = name, free_port()
        self.config = mesh_config(directory / name, relay={"port": self.port, "lease_s": 1.0})
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._stack = contextlib.ExitStack()
        self._writers = {}

    def start(self):
        self.server = self._stack.enter_context(running_relay(self.config))

    def stop(self):
        self._stack.close()

    def append(self, channel, *numbers, partition=None, payload=()):
        key = (channel, partition or f"{self.name}.0")
        if key not in self._writers:
            self._writers[key] = JournalWriter(self.config.journal_directory / "/".join(key))
        for number in numbers:
            self._writers[key].append(record(number, *payload))

    def close(self):
        self.stop()
        for writer in self._writers.values():
            writer.close()


@pytest.fixture
def hosts(tmp_path):
    with contextlib.ExitStack() as stack:
        found = [Host(tmp_path, name) for name in ("here", "there")]
        for host in found:
            stack.callback(host.close)
            host.start()
        yield found


def joined(*addresses):
    home, *others = [RelayConnection(address) for address in addresses]
    return MeshConnection(home, others)


@pytest.fixture
async def mesh(hosts):
    async with joined(*(host.address for host in hosts)) as connection:
        yield connection


@contextlib.asynccontextmanager
async def reading(mesh, *channels, **options):
    """Collect (partition, seq) of what comes while the block lasts."""
    reader, seen = ChannelReader(mesh, channels, **options), []

    async def read():
        while True:
            seen.extend((item.place.partition, item.place.seq) for item in await reader.read(1.0))

    task = asyncio.create_task(read())
    try:
        yield reader, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_partition_is_read_from_its_own_relay_also_one_that_comes_later(hosts, mesh):
    here, there = hosts
    here.append("images", 0, 1)
    there.append("images", 0)
    async with reading(mesh, "images", "sources") as (reader, seen):
        await until(lambda: len(seen) == 3)
        there.append("sources", 0)
        there.append("images", 1)
        await until(lambda: len(seen) == 5)
        await until(lambda: reader.caught_up)
    assert sorted(seen) == [("here.0", 0), ("here.0", 1), ("there.0", 0), ("there.0", 0), ("there.0", 1)]
    info = await mesh.info()
    assert {(p["partition"], p["relay"]) for p in info["partitions"]} == {(h.name + ".0", h.address) for h in hosts}
    assert [relay["trouble"] for relay in info["relays"]] == [None, None]


async def test_single_records_are_looked_up_at_the_same_time_and_none_is_missed(hosts, mesh):
    for host in hosts:
        host.append("images", *range(10))
    await mesh.info()
    places = [Place("images", f"{host.name}.0", 0, seq) for host in hosts for seq in range(10)]
    found = await asyncio.gather(*(record_at(mesh, place) for place in places))
    assert [record.place for record in found] == places


async def test_two_readers_of_one_channel_both_get_everything(hosts, mesh):
    for host in hosts:
        host.append("images", 0)
    async with reading(mesh, "images") as (_, one), reading(mesh, "images", max_records=1) as (_, two):
        for number in range(1, 10):
            hosts[number % 2].append("images", number)
        await until(lambda: len(one) == len(two) == 11)
    assert sorted(one) == sorted(two) and len(set(one)) == 11


async def test_a_relay_that_is_away_takes_nothing_from_the_others_and_is_read_on_when_it_is_back(hosts, mesh):
    here, there = hosts
    there.append("images", 0)
    async with reading(mesh, "images") as (reader, seen):
        await until(lambda: seen == [("there.0", 0)])
        there.stop()
        there.append("images", 1)
        here.append("images", *range(20))
        await until(lambda: len(seen) == 21)
        assert not reader.caught_up
        there.start()
        await until(lambda: ("there.0", 1) in seen)
        await until(lambda: reader.caught_up)
    assert len(seen) == len(set(seen)) == 22


async def test_a_relay_that_was_never_there_is_found_when_it_comes(hosts):
    here, there = hosts
    there.stop()
    here.append("images", 0)
    there.append("images", 0)
    async with joined(here.address, there.address) as mesh, reading(mesh, "images") as (_, seen):
        await until(lambda: seen == [("here.0", 0)])
        (trouble,) = [r["trouble"] for r in (await mesh.info())["relays"] if r["address"] == there.address]
        assert "no answer" in trouble
        there.start()
        await until(lambda: len(seen) == 2)


async def test_without_the_relay_of_this_host_nothing_can_be_said(hosts, mesh):
    hosts[0].stop()
    with pytest.raises(RelayUnreachableError, match="no answer"):
        await mesh.info()


async def test_a_link_that_is_slow_delays_what_is_behind_it_and_nothing_else(hosts):
    here, there = hosts
    gate = threading.Event()
    gate.set()
    there.append("images", 0)
    here.append("images", 0)

    def delayed(data):
        assert gate.wait(60)
        return data

    with Wire(there.address, delayed) as wire:
        async with joined(here.address, wire.address) as mesh, reading(mesh, "images") as (_, seen):
            await until(lambda: len(seen) == 2)
            gate.clear()
            there.append("images", 1)
            for number in range(1, 6):
                here.append("images", number)
                await until(lambda n=number: ("here.0", n) in seen)
            gate.set()
            await until(lambda: ("there.0", 1) in seen)
        assert len(seen) == len(set(seen)) == 8


async def test_work_is_taken_from_all_relays_and_done_where_it_came_from(hosts, mesh):
    for host in hosts:
        host.append("images", *range(10))
    member = GroupMember(mesh, "g", "w", ("images",))
    seen = []
    async with asyncio.timeout(30):
        while len(seen) < 20:
            for found in await member.lease(1, 1.0):
                await member.begin(found)
                seen.append((found.place.partition, found.place.seq))
                await member.ack([found])
    assert sorted(seen) == sorted((f"{h.name}.0", seq) for h in hosts for seq in range(10))
    for host in hosts:
        assert [g["floor"] for g in host.server.core.info()["groups"]] == [10]


async def test_work_that_came_while_the_worker_was_busy_is_kept_for_it_and_given_back_when_it_leaves(hosts, mesh):
    here, there = hosts
    here.append("images", 0)
    member = GroupMember(mesh, "g", "busy", ("images",))
    # This waits at both relays: what comes at the other while the worker is busy is leased to it.
    (held,) = await _lease(member)
    there.append("images", 1)
    async with joined(here.address, there.address) as second:
        other = GroupMember(second, "g", "other", ("images",))
        waiting = asyncio.create_task(other.lease(1, 2.5))
        while not waiting.done():
            member.extend([held], [held])
            await asyncio.wait({waiting}, timeout=0.1)
        taken_by_other = waiting.result()
        own = [] if taken_by_other else await _lease(member)
        assert [number_of(r) for r in [*taken_by_other, *own]] == [1]
        await member.leave()
        await other.leave()
        again = [await _lease(other), await _lease(other)]
        assert sorted(number_of(r) for records in again for r in records) == [0, 1]


async def test_headers_come_alone_only_from_the_host_that_has_the_worker(hosts, mesh):
    member = GroupMember(mesh, "g", "w", ("images",))
    for host in hosts:
        host.append("images", 0, payload=(b"pixels",))
    found = [record for _ in hosts for record in await _lease(member, headers_only=True)]
    assert {r.place.partition: len(r.frames) for r in found} == {"here.0": 1, "there.0": 2}


async def _lease(member, **options):
    async with asyncio.timeout(20):
        while not (found := await member.lease(1, 1.0, **options)):
            pass
    return found


async def test_what_is_acknowledged_while_a_relay_is_away_is_an_error_and_the_rest_is_done(hosts, mesh):
    here, there = hosts
    here.append("images", 0)
    there.append("images", 0)
    member = GroupMember(mesh, "g", "w", ("images",))
    held = [*await _lease(member), *await _lease(member)]
    there.stop()
    with pytest.raises(RelayUnreachableError):
        await member.ack(held)
    assert [g["floor"] for g in here.server.core.info()["groups"]] == [1]
    there.start()
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(RelayUnreachableError):
                await member.ack(held)
                break
    assert [g["floor"] for g in there.server.core.info()["groups"]] == [1]


async def test_what_no_relay_has_cannot_be_acknowledged(mesh):
    with pytest.raises(RelayUnreachableError, match="no relay that answers has images/9"):
        await mesh.ack(Ack(group="g", items=[Item("images", "9", 0)]))


async def test_positions_are_kept_where_the_partitions_are(hosts, mesh):
    for host in hosts:
        host.append("images", 0)
    await mesh.info()
    reads = [Read("images", f"{host.name}.0", 1, 1) for host in hosts]
    await mesh.position(Position(reader="me", reads=reads))
    assert sorted(await mesh.positions("me"), key=lambda r: r.partition) == reads
    for host in hosts:
        assert [r["partition"] for r in host.server.core.info()["readers"]] == [f"{host.name}.0"]


async def test_two_hosts_with_one_name_are_told_apart_loudly(hosts, mesh, capsys):
    here, there = hosts
    here.append("images", 1, partition="0")
    there.append("images", 2, partition="0")
    await mesh.info()
    _, records = await fetch(mesh, at(0))
    assert [number_of(r) for r in records] == [1]
    said = "".join(capsys.readouterr())
    assert said.count("give each host a [mesh] host of its own") == 1 and "images/0" in said


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"mesh": {"relays": ["tcp://127.0.0.1:7400"]}}, r'give this one a name.*\[mesh\] host = "NAME"'),
        ({"mesh": {"host": "a", "relays": ["north"]}}, r"'north' is not an address such as tcp://host-b:7400"),
        ({"mesh": {"host": "a", "relays": ["tcp://north:7400"]}}, r"wants keys.*relays = .*tcp://north:7400"),
        ({"mesh": {"host": "a b"}}, r"mesh\.host"),
    ],
    ids=["no name", "no address", "no key", "bad name"],
)
def test_a_mesh_that_cannot_be_joined_is_refused_with_the_way_out(tmp_path, tables, says):
    with pytest.raises(ConfigError, match=says):
        mesh_config(tmp_path, **tables)
