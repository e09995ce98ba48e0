"""Whatever comes to the relay's port, it lives, keeps its memory, and answers the next honest request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

import msgpack
import numpy as np
import pytest
import zmq

from bench.helpers import resident_bytes
from hostile.relay_requests import CORPUS, fuzz
from trapline.common.channel import RelayConnection
from trapline.common.journal import JournalWriter
from trapline.common.relay.requests import Cursor, Fetch, Info
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import stop_process, until, wait_for


@pytest.fixture
def config(tmp_path):
    return mesh_config(tmp_path)


@pytest.fixture
def relay(config):
    with running_relay(config) as server:
        yield server


@pytest.fixture
def images(config, relay):
    with JournalWriter(config.journal_directory / "images" / "0", segment_bytes=1 << 24) as writer:
        for i in range(10):
            writer.append([msgpack.packb({"id": bytes(16)}), b"%d" % i])
        found = relay.core.catalogue.get
        wait_for(lambda: (reader := found("images", "0")) and reader.next_seq == 10, what="the partition")
        yield writer


async def _survives(relay, address, messages):
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.connect(address)
    try:
        async with RelayConnection(relay.address) as honest:
            for frames in messages:
                if frames:
                    stranger.send_multipart(frames)
                reply = await honest.request(Fetch(cursors=[Cursor("images", "0", 3)], max_records=1))
                assert reply.values["slabs"][0]["records"][0][0] == 3
    finally:
        # What was sent and not yet delivered still is.
        context.destroy(linger=5000)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
async def test_the_corpus_is_answered_or_ignored(config, relay, images, transport):
    address = relay.address if transport == "tcp" else f"ipc://{config.ipc_path}"
    before = relay.core.counters["requests_refused"]
    await _survives(relay, address, CORPUS)
    # The stranger's messages travel on their own way: the last may still be on it.
    await until(lambda: relay.core.counters["requests_refused"] - before >= len(CORPUS) - 3)


@pytest.mark.parametrize("seed", range(4))
async def test_a_fuzzer_finds_nothing(config, relay, images, seed):
    await _survives(relay, relay.address, fuzz(seed, 500))
    await until(lambda: relay.core.counters["requests_refused"] > 200)
    assert not relay.core.counters["requests_failed"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_fuzzer_finds_nothing_in_a_long_time(config, relay, images):
    await _survives(relay, relay.address, fuzz(99, 100_000))


async def test_bytes_that_are_no_zeromq_leave_the_relay_alone(config, relay, images):
    host, port = relay.address.removeprefix("tcp://").split(":")
    random = np.random.default_rng(5)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)
    huge = greeting + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER" + b"\x02" + b"\x7f" + b"\xff" * 7
    payloads = [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000, greeting, greeting[:20], huge, b""]
    payloads += [greeting + random.bytes(int(random.integers(1, 400))) for _ in range(60)]
    payloads += [random.bytes(int(random.integers(1, 400))) for _ in range(60)]
    async with RelayConnection(relay.address) as honest:
        for data in payloads:
            with socket.create_connection((host, int(port)), timeout=5) as stranger, contextlib.suppress(OSError):
                stranger.sendall(data)
                await honest.request(Info())


async def test_a_client_that_asks_for_everything_and_reads_nothing_costs_others_nothing(config, relay):
    with JournalWriter(config.journal_directory / "images" / "0", segment_bytes=1 << 26) as writer:
        for _ in range(8):
            writer.append([b"head", bytes(8 << 20)])
        for _ in range(2000):
            writer.append([b"small", bytes(100)])
        greedy = zmq.Context()
        mouth = greedy.socket(zmq.DEALER)
        mouth.setsockopt(zmq.LINGER, 0)
        mouth.setsockopt(zmq.RCVHWM, 1)
        mouth.connect(relay.address)
        wanted = [{"channel": "images", "partition": "0", "seq": 8}]
        async with RelayConnection(relay.address) as honest:
            await honest.request(Info())
            before = resident_bytes(os.getpid()) / 1e6
            for turn in range(3000):
                request = {"id": 1, "op": "fetch", "cursors": wanted, "max_records": 2000, "max_bytes": 60_000}
                mouth.send(msgpack.packb(request))
                if turn % 100 == 0:
                    await honest.request(Info())
            wait_for(lambda: relay.core.counters["peers_not_reading"] > 100, what="a client that does not read")
            await honest.request(Info())
            assert resident_bytes(os.getpid()) / 1e6 - before < 100
        greedy.destroy(linger=0)


_READER = """
import sys, zmq, msgpack
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
request = {"id": 1, "op": "fetch", "cursors": [{"channel": "images", "partition": "0", "seq": 0}], "max_bytes": 1 << 26}
for _ in range(200):
    socket.send(msgpack.packb(request))
print("asked", flush=True)
for _ in range(10 ** 9):
    socket.recv_multipart()
"""


async def test_a_stopped_client_costs_the_relay_nothing_and_goes_on_when_continued(config, relay):
    with JournalWriter(config.journal_directory / "images" / "0", segment_bytes=1 << 26) as writer:
        for _ in range(8):
            writer.append([b"head", bytes(8 << 20)])
        reader = await asyncio.create_subprocess_exec(sys.executable, "-c", _READER, relay.address, stdout=-1)
        try:
            await reader.stdout.readline()
            stop_process(reader.pid)
            async with RelayConnection(relay.address) as honest:
                for seq in range(8, 108):
                    writer.append([b"small"])
                    fetch = Fetch(cursors=[Cursor("images", "0", seq)], wait_ms=5000)
                    reply = await honest.request(fetch)
                    assert reply.values["slabs"][0]["records"][0][0] == seq
            os.kill(reader.pid, signal.SIGCONT)
            assert reader.returncode is None
        finally:
            reader.kill()
            await reader.wait()
