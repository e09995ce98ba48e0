"""Strangers at a port that wants keys: refused, counted, the relay lives, and the next trusted probe is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading

import msgpack
import pytest

from bench.helpers import resident_bytes
from common_security import secured
from hostile.relay_requests import CORPUS, fuzz
from hostile.zmtp import HANDSHAKES, Wire, random_handshakes, say
from trapline.common.channel import RelayUnreachableError
from trapline.common.relay.requests import Append, Info
from trapline.common.testing.relay import running_relay
from waiting import until

RECORD = msgpack.packb({"id": bytes(16)})
SILENT = 300


@pytest.fixture
def host(tmp_path):
    return secured(tmp_path, relay={"max_request_bytes": 1 << 20})


@pytest.fixture
def relay(host):
    with running_relay(host.config) as server:
        yield server


@pytest.fixture
def friend(host):
    return host.friend("archive", publish=["follow_up"])


async def probe(host, relay, friend):
    """Ask as a trusted key would, on a connection of its own."""
    async with host.connection(relay.address, friend) as connection:
        await connection.request(Info(), timeout_s=10)


async def answered(connection):
    try:
        await connection.request(Info(), timeout_s=1)
    except RelayUnreachableError:
        return False
    return True


def turned_away(relay):
    counters = relay.core.counters
    return counters["connections"] - counters["connections_let_in"]


@pytest.mark.parametrize("name", HANDSHAKES)
async def test_handshakes_made_by_hand(host, relay, friend, name):
    answer = await asyncio.to_thread(say, relay.address, HANDSHAKES[name], listen_s=0.2)
    assert b"archive" not in answer and b"READY" not in answer
    await probe(host, relay, friend)
    await until(lambda: turned_away(relay) == 1)
    assert relay.core.counters["connections_let_in"] == 1
    assert relay.core.counters["requests_info"] == 1


@pytest.mark.parametrize(
    ("name", "counter"),
    [
        ("no key", "strangers_without_key"),
        ("a password", "strangers_without_key"),
        ("hello that cannot be opened", "strangers_undecipherable"),
        ("hello, short", "strangers_malformed"),
        ("initiate first", "strangers_malformed"),
        ("a greeting", "strangers_broken_off"),
    ],
)
async def test_what_a_stranger_did_wrong_has_its_own_counter(relay, name, counter):
    await asyncio.to_thread(say, relay.address, HANDSHAKES[name], listen_s=0.1)
    await until(lambda: relay.core.counters[counter] == 1)
    assert sum(n for key, n in relay.core.counters.items() if key.startswith("strangers_")) == 1


async def test_a_fuzzer_at_the_handshake(host, relay, friend):
    async with host.connection(relay.address, friend) as connection:
        for data in random_handshakes(seed=3, count=300):
            await asyncio.to_thread(say, relay.address, data)
            await connection.request(Info())
    await probe(host, relay, friend)
    await until(lambda: turned_away(relay) == 300)


async def test_a_recorded_session_cannot_be_played_again(host, relay, friend):
    with Wire(relay.address) as wire:
        async with host.connection(wire.address, friend) as connection:
            await connection.request(Append(channel="follow_up", partition="0"), [RECORD, b"once"])
    (recording,) = wire.said
    assert len(recording) > 400 and b"once" not in recording
    appended = relay.core.counters["requests_append"]
    # All at once, in the pace of the handshake, and from its last step on.
    steps = [64, 64 + 202, len(recording)]
    await asyncio.to_thread(say, relay.address, bytes(recording), listen_s=0.3)
    await asyncio.to_thread(_say_in_steps, relay.address, bytes(recording), steps)
    await asyncio.to_thread(say, relay.address, bytes(recording[:64] + recording[64 + 202 :]), listen_s=0.3)
    await until(
        lambda: relay.core.counters["strangers_undecipherable"] + relay.core.counters["strangers_malformed"] >= 3
    )
    await probe(host, relay, friend)
    assert relay.core.counters["requests_append"] == appended == 1
    assert relay.core.counters["connections_let_in"] == 2


def _say_in_steps(address, data, steps):
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as stranger, contextlib.suppress(OSError):
        stranger.settimeout(1)
        for begin, end in zip([0, *steps], steps, strict=False):
            stranger.sendall(data[begin:end])
            # The greeting and the welcome are answered; to what was enciphered for another session there is no answer.
            assert stranger.recv(65536) or end == len(data)


async def test_who_changes_a_byte_on_the_way_breaks_the_link_and_nothing_else(host, relay, friend):
    armed, flipped = threading.Event(), threading.Event()

    def change(data):
        if not armed.is_set() or flipped.is_set():
            return data
        flipped.set()
        return data[:-1] + bytes([data[-1] ^ 1])

    with Wire(relay.address, change) as wire:
        async with host.connection(wire.address, friend) as connection:
            await connection.request(Info())
            armed.set()
            with pytest.raises(RelayUnreachableError):
                await connection.request(Append(channel="follow_up", partition="0"), [RECORD, bytes(500)], timeout_s=1)
            assert flipped.is_set()
            # ZeroMQ leaves such a link to its heartbeats, which end it; what is asked until then is asked again.
            async with asyncio.timeout(30):
                while not await answered(connection):
                    pass
    assert relay.core.counters["requests_append"] == 0
    await probe(host, relay, friend)


async def test_a_trusted_key_that_sends_too_much_is_hung_up_on(host, relay, friend):
    before = resident_bytes(os.getpid())
    async with host.connection(relay.address, friend) as connection:
        await connection.request(Info())
        with pytest.raises(RelayUnreachableError):
            await connection.request(Append(channel="follow_up", partition="0"), [RECORD, bytes(2 << 20)], timeout_s=1)
    assert relay.core.counters["requests_append"] == 0
    await probe(host, relay, friend)
    assert resident_bytes(os.getpid()) - before < 50 << 20


async def test_those_who_connect_and_say_nothing_are_hung_up_on(host, relay, friend):
    where, _, port = relay.address.removeprefix("tcp://").rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(SILENT):
            stack.enter_context(socket.create_connection((where, int(port)), timeout=5))
        await probe(host, relay, friend)
        await until(lambda: relay.core.counters["strangers_broken_off"] == SILENT)
    await probe(host, relay, friend)


async def test_a_trusted_key_may_say_what_it_likes(host, relay, friend):
    async with host.connection(relay.address, friend) as connection:
        for frames in [*CORPUS, *fuzz(seed=7, count=300)]:
            if frames:
                await connection._socket.send_multipart(frames)
            await connection.request(Info())
    await until(lambda: relay.core.counters["requests_refused"] > 100)
    assert not relay.core.counters["requests_failed"]


async def test_a_crowd_of_wrong_keys_leaves_the_log_readable(host, relay, friend, capsys):
    strangers = [host.stranger(f"stranger-{i}") for i in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        for pair in strangers:
            await stack.enter_async_context(host.connection(relay.address, pair))
        await until(lambda: relay.core.counters["strangers_untrusted"] >= 10)
        await probe(host, relay, friend)
    assert "".join(capsys.readouterr()).count("refused a key that is not trusted") == 1
