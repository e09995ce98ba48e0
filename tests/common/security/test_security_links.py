"""Links that want keys: who is let in, who is not and how he learns it, and that both are counted."""

import asyncio
import contextlib
import stat
from pathlib import Path

import pytest
import zmq

from common_security import secured
from trapline.client import connect
from trapline.common.channel import ChannelReader, RelayConnection, RelayRefusedError, RelayUnreachableError
from trapline.common.config import ConfigError
from trapline.common.journal import JournalWriter
from trapline.common.relay.process import make_server
from trapline.common.relay.requests import Cursor, Fetch, Info, Lease
from trapline.common.security.trust import revoke
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import until, wait_for


@pytest.fixture
def host(tmp_path):
    return secured(tmp_path)


@pytest.fixture
def relay(host):
    with running_relay(host.config) as server:
        yield server


@pytest.fixture
def images(host, relay):
    with JournalWriter(host.config.journal_directory / "images" / "0") as writer:
        for i in range(3):
            writer.append([b"head", b"%d" % i])
        found = relay.core.catalogue.get
        wait_for(lambda: (reader := found("images", "0")) and reader.next_seq == 3, what="the partition")
        yield writer


async def test_a_trusted_key_reads_what_it_may(host, relay, images):
    friend = host.friend("archive")
    async with host.connection(relay.address, friend) as connection:
        reader = ChannelReader(connection, ("images",))
        found = []
        async with asyncio.timeout(20):
            while len(found) < 3:
                found += await reader.read()
    assert [record.place.seq for record in found] == [0, 1, 2]
    await until(lambda: relay.core.counters["connections_let_in"] == 1)


async def test_a_key_that_is_not_trusted_is_refused_and_counted_and_told_what_to_do(host, relay):
    stranger = host.stranger("laptop")
    async with host.connection(relay.address, stranger) as connection:
        with pytest.raises(RelayUnreachableError, match=r"not trust the key laptop .*keys trust laptop.pub"):
            await connection.request(Info(), timeout_s=1)
    assert relay.core.counters["strangers_untrusted"] >= 1
    assert relay.core.counters["requests_info"] == 0


async def test_a_key_that_comes_to_be_trusted_is_let_in_without_a_restart_of_anyone(host, relay):
    stranger = host.stranger("laptop")
    async with host.connection(relay.address, stranger) as connection:
        with pytest.raises(RelayUnreachableError):
            await connection.request(Info(), timeout_s=0.5)
        host.trust(stranger)
        assert (await connection.request(Info(), timeout_s=10)).values["partitions"] == []


async def test_a_client_without_a_key_is_refused_and_counted_and_told_so(host, relay):
    async with RelayConnection(relay.address) as connection:
        with pytest.raises(RelayUnreachableError, match="wants a key: name its public key"):
            await connection.request(Info(), timeout_s=1)
        await until(lambda: relay.core.counters["strangers_without_key"])
    assert relay.core.counters["requests_info"] == 0


async def test_a_relay_with_another_key_than_the_pinned_one_is_not_talked_to(host, relay):
    friend, other = host.friend("archive"), host.stranger("impostor")
    async with host.connection(relay.address, friend, other.public) as connection:
        with pytest.raises(RelayUnreachableError, match="pinned key is not that of this relay"):
            await connection.request(Info(), timeout_s=1)
    assert relay.core.counters["strangers_undecipherable"] >= 1
    assert relay.core.counters["requests_info"] == 0


async def test_a_key_for_a_relay_that_is_open_is_said_to_be_too_much(tmp_path, host):
    with running_relay(mesh_config(tmp_path / "open")) as relay:
        async with host.connection(relay.address, host.stranger("archive")) as connection:
            with pytest.raises(RelayUnreachableError, match="it is open and knows no keys"):
                await connection.request(Info(), timeout_s=1)


async def _ask_until_refused(connection):
    async with asyncio.timeout(10):
        while True:
            await connection.request(Info())


async def test_a_revoked_key_is_refused_on_the_connection_it_has_and_on_a_new_one(host, relay, images):
    friend = host.friend("archive")
    async with host.connection(relay.address, friend) as connection:
        await connection.request(Info())
        revoke(host.config.keys_directory / "trusted", "archive")
        with pytest.raises(RelayRefusedError, match="does not trust your key, or does so no more"):
            await _ask_until_refused(connection)
        assert relay.core.counters["refused_untrusted"] == 1
    async with host.connection(relay.address, friend) as connection:
        with pytest.raises(RelayUnreachableError, match="does not trust the key archive"):
            await connection.request(Info(), timeout_s=1)


async def test_what_waited_when_its_key_was_revoked_gets_no_record(host, relay, images):
    friend = host.friend("archive")
    async with host.connection(relay.address, friend) as connection:
        waiting = asyncio.create_task(connection.request(Fetch(cursors=[Cursor("images", "0", 3)], wait_ms=30_000)))
        await until(lambda: relay.core.n_waiting)
        revoke(host.config.keys_directory / "trusted", "archive")
        relay.core.guard._refresh_at = 0.0
        images.append([b"head", b"secret"])
        with pytest.raises(RelayRefusedError, match="does not trust your key"):
            await waiting


async def test_programs_of_this_host_need_no_key_through_ipc(host, relay, images):
    async with RelayConnection(f"ipc://{host.config.ipc_path}") as connection:
        assert len((await connection.request(Info())).values["partitions"]) == 1


def test_the_socket_of_this_host_is_for_one_account(host, relay):
    assert stat.S_IMODE(Path(host.config.ipc_path).stat().st_mode) == 0o600


async def test_loopback_is_open_by_default(tmp_path):
    with running_relay(mesh_config(tmp_path)) as relay:
        async with RelayConnection(relay.address) as connection:
            await connection.request(Info())


def test_other_addresses_need_keys_and_the_message_says_how(tmp_path):
    with pytest.raises(ConfigError, match=r"relay.host = '0\.0\.0\.0' is not loopback .*identity = .*keys new"):
        mesh_config(tmp_path, relay={"host": "0.0.0.0"})
    with pytest.raises(ConfigError, match="loopback_needs_keys is set: the relay needs keys"):
        mesh_config(tmp_path, security={"loopback_needs_keys": True})


def test_a_relay_without_its_key_file_does_not_start(tmp_path):
    config = mesh_config(tmp_path, relay={"host": "0.0.0.0"}, security={"identity": "host-a"})
    with pytest.raises(ConfigError, match=r"no key .*host-a.key.*trapline keys new host-a"):
        make_server(config)


async def test_a_relay_on_every_address_wants_keys_on_each(tmp_path):
    host = secured(tmp_path, relay={"host": "0.0.0.0"})
    friend = host.friend("archive")
    with running_relay(host.config) as relay:
        port = relay.address.rpartition(":")[2]
        async with host.connection(f"tcp://127.0.0.1:{port}", friend) as connection:
            await connection.request(Info())
        async with RelayConnection(f"tcp://127.0.0.1:{port}") as connection:
            with pytest.raises(RelayUnreachableError, match="wants a key"):
                await connection.request(Info(), timeout_s=1)


async def test_ip6_loopback_can_be_listened_on(tmp_path):
    with contextlib.suppress(OSError), running_relay(mesh_config(tmp_path, relay={"host": "::1"})) as relay:
        assert relay.address.startswith("tcp://[::1]:")


async def test_a_trusted_file_that_is_wrong_trusts_nobody_and_the_others_go_on(host, relay, capsys):
    friend = host.friend("archive")
    trusted = host.config.keys_directory / "trusted"
    host.trust(host.stranger("open")).chmod(0o666)
    (trusted / "broken.toml").write_text("public = 5\nread = 'all'")
    (trusted / "binary.toml").write_bytes(b"\xff\xfe")
    (trusted / "odd.toml").write_text(f'public = "{host.stranger("odd").public}"\nadmin = true\n')
    async with host.connection(relay.address, friend) as connection:
        await connection.request(Info())
    assert [rights.name for rights in relay.core.guard._trusted.keys.values()] == ["archive"]
    said = "".join(capsys.readouterr())
    assert "unknown key admin" in said and "can be written by others" in said


def test_the_blocking_client_takes_keys_from_files_and_from_the_configuration(host, relay, tmp_path, monkeypatch):
    friend = host.friend("archive")
    elsewhere = tmp_path / "elsewhere"
    pinned = host.config.keys_directory / "host-a.pub"
    with connect(relay.address, key=pinned, identity=elsewhere / "archive.key") as mesh:
        assert mesh.channels() == []
    with connect(relay.address, key=host.relay.public, identity=elsewhere / "archive.key") as mesh:
        assert mesh.channels() == []
    (tmp_path / "mesh.toml").write_text(
        f'[security]\nkeys_directory = "{elsewhere}"\nidentity = "archive"\n[security.relays]\n'
        f'"{relay.address}" = "{pinned}"\n'
    )
    monkeypatch.chdir(tmp_path)
    with connect(relay.address) as mesh:
        assert mesh.channels() == []
    with connect(relay.address, key=friend.public) as mesh, pytest.raises(RelayUnreachableError, match="pinned is"):
        mesh.channels()


async def test_what_a_peer_says_of_itself_is_not_believed(host, relay):
    """Properties in a handshake are the peer's own words: only those that the gate sealed name a key."""
    gate = relay._gate

    class Frame:
        def __init__(self, **properties):
            self._properties = {key.replace("_", "-"): value for key, value in properties.items()}

        def get(self, name):
            try:
                return self._properties[name]
            except KeyError:
                raise zmq.ZMQError(zmq.EINVAL) from None

    friend = host.friend("archive")
    assert gate.who(Frame(User_Id=friend.public, Peer_Address="10.0.0.7")) == ""
    assert gate.who(Frame(User_Id=f":{friend.public}", Peer_Address="10.0.0.7")) == ""
    assert gate.who(Frame(Peer_Address="10.0.0.7")) == ""
    assert gate.who(Frame()) == ""
    assert gate.who(Frame(User_Id=f"{gate._seal}:{friend.public}", Peer_Address="10.0.0.7")) == friend.public
    assert gate.who(Frame(Peer_Address="localhost:0:0:1")) is None
    with pytest.raises(Exception, match="does not trust"):
        relay.core.guard.check("", Lease(group="g", worker="w", channels=["images"]))
