"""Clients that vanish or stand still, and a relay that does: leases go on with whoever is there, and never two ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from common_relay import Bench
from mesh_runs import environment
from trapline.common.channel import ChannelReader, GroupMember, RelayConnection, RelayUnreachableError
from trapline.common.journal import JournalWriter
from trapline.common.relay.presence import Connections, Speakers
from trapline.common.relay.requests import Extend, Item
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import stop_process, until, wait_for

FOR_EVER_S = 1000.0
WORKER = """
import sys, zmq, msgpack
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
def ask(**request):
    socket.send(msgpack.packb({"id": 1, **request}))
    return msgpack.unpackb(socket.recv_multipart()[0])
lease = {"op": "lease", "group": "g", "worker": "gone", "channels": ["images"], "max_records": 2, "wait_ms": 10000}
first, second = [slab["records"][0][0] for slab in ask(**lease)["slabs"]]
place = {"channel": "images", "partition": "0"}
ask(op="extend", group="g", worker="gone", items=[], handling=[{**place, "seq": first}])
print(first, second, flush=True)
socket.recv()
"""


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path, relay={"lease_s": FOR_EVER_S})


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
def images(config, relay):
    with JournalWriter(config.journal_directory / "images" / "0") as writer:
        for i in range(4):
            writer.append([b"%d" % i])
        yield writer


@contextlib.asynccontextmanager
async def other_process(address):
    """Run a worker that leases two records, says that it handles the first, and waits."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, address, stdout=-1)
    try:
        assert (await child.stdout.readline()).split() == [b"0", b"1"]
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_what_a_killed_worker_had_is_given_out_at_once(config, relay, images, transport):
    address = relay.address if transport == "tcp" else f"ipc://{config.ipc_path}"
    async with other_process(address) as child, RelayConnection(address) as connection:
        here = GroupMember(connection, "g", "here", ("images",))
        assert [r.place.seq for r in await here.lease(9, 10)] == [2, 3]
        waiting = asyncio.create_task(here.lease(9, 60))
        child.kill()
        records = await asyncio.wait_for(waiting, 30)
        # It died with the first in its handler, which nobody else can tell from dying of it.
        assert [(r.place.seq, r.attempts) for r in records] == [(0, 1), (1, 0)]
        assert relay.core.counters["leases_of_vanished"] == 2


async def test_a_worker_that_connects_again_keeps_what_it_has(relay, images):
    async with RelayConnection(relay.address) as again:
        async with RelayConnection(relay.address) as first:
            held = await GroupMember(first, "g", "w", ("images",)).lease(2, 10)
            await again.request(Extend("g", "w", [Item("images", "0", r.place.seq) for r in held]))
        # The first connection has gone: what was waiting on the second is served all the same.
        await until(lambda: len(relay._connections) == 1)
        records = await GroupMember(again, "g", "other", ("images",)).lease(9, 10)
        assert [r.place.seq for r in records] == [2, 3]
        assert not relay.core.counters["leases_of_vanished"]


async def test_what_was_said_before_leaving_counts(relay, images):
    for expected in ([0, 1], [2, 3]):
        async with RelayConnection(relay.address) as connection:
            member = GroupMember(connection, "g", "w", ("images",))
            records = await member.lease(2, 10)
            assert [r.place.seq for r in records] == expected
            await member.ack(records)
    await until(lambda: not len(relay._connections))
    assert relay.core.groups.share("g", "images", "0").floor == 4


async def test_a_stopped_workers_records_go_to_another_at_their_deadline(tmp_path):
    config = mesh_config(tmp_path, relay={"lease_s": 0.5})
    with running_relay(config) as relay, JournalWriter(config.journal_directory / "images" / "0") as images:
        images.append_many([[b"0"], [b"1"]])
        async with other_process(relay.address) as child, RelayConnection(relay.address) as connection:
            stop_process(child.pid)
            here = GroupMember(connection, "g", "here", ("images",))
            got = []
            while len(got) < 2:
                records = await here.lease(9, 30)
                await here.ack(records)
                got += [r.place.seq for r in records]
            assert got == [0, 1]
            assert not relay.core.counters["leases_of_vanished"]


def test_a_descriptor_that_is_used_again_is_another_connection():
    connections = Connections()
    connections.came(b"a", 5)
    assert connections.ended(7) is None
    assert connections.ended(5) == b"a"
    connections.came(b"b", 5)
    # Words of the first that were still on their way.
    connections.came(b"a", 5)
    assert b"b" not in connections and len(connections) == 1


def test_a_worker_is_forgotten_with_the_last_peer_that_spoke_for_it():
    speakers = Speakers()
    speakers.speaks(b"a", "g", "w")
    speakers.speaks(b"a", "g", "v")
    speakers.speaks(b"b", "g", "w")
    assert speakers.forget(b"a") == {("g", "v")}
    assert speakers.forget(b"b") == {("g", "w")}
    assert speakers.forget(b"b") == set()


@contextlib.contextmanager
def relay_process(tmp_path, lease_s):
    """Run a relay in a process of its own; yield its process and its configuration."""
    config = mesh_config(tmp_path, relay={"lease_s": lease_s})
    text = f'[mesh]\ndata_directory = "{config.data_directory}"\n[relay]\nport = 0\nlease_s = {lease_s}\n'
    (tmp_path / "mesh.toml").write_text(text)
    command = [sys.executable, "-m", "trapline.common.relay", "--config", str(tmp_path / "mesh.toml")]
    child = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for((config.data_directory / "relay.address").exists, what="the relay")
        yield child, config
    finally:
        child.kill()
        child.wait()


async def test_a_stopped_relay_stops_no_writer_loses_no_record_and_takes_no_lease_away(tmp_path):
    with (
        relay_process(tmp_path, lease_s=3.0) as (relay, config),
        JournalWriter(config.journal_directory / "images" / "0") as images,
    ):
        images.append([b"0"])
        async with (
            RelayConnection(f"ipc://{config.ipc_path}") as one,
            RelayConnection(f"ipc://{config.ipc_path}") as two,
        ):
            worker = GroupMember(one, "g", "w", ("images",))
            reader = ChannelReader(two, ("images",))
            held = await worker.lease(1, 10)
            assert [r.place.seq for r in await reader.read(10)] == [0]
            stop_process(relay.pid)
            seqs = [images.append([b"%d" % i]) for i in range(1, 200)]
            for _ in range(2):
                # Two seconds each: together longer than the lease.
                with pytest.raises(RelayUnreachableError):
                    await reader.read(0)
            os.kill(relay.pid, signal.SIGCONT)
            kept = await one.request(Extend("g", "w", [Item("images", "0", held[0].place.seq)]), timeout_s=30)
            assert kept.values["kept"] == 1
            got = []
            while len(got) < len(seqs):
                got += [r.place.seq for r in await reader.read(10)]
            assert got == seqs


def test_a_lease_does_not_end_in_time_in_which_the_relay_did_not_run(tmp_path):
    bench = Bench(tmp_path)
    bench.append("images/0", 1)
    bench.later()
    bench.lease("w1")
    bench.now += 100
    bench.core.note_stall(100)
    assert bench.lease("w2").seqs == []
    bench.later(3.1)
    assert bench.lease("w2").seqs == [0]
    bench.close()
