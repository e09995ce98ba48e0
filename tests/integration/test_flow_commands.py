"""`trapline top`, `status` and `journal replay`, run as a user runs them, on real relays."""

import json
import time

import pytest

from client_forms import message
from mesh_runs import trapline
from relay_process import RelayProcess
from trapline.client import connect
from trapline.common.channel import RelayConnection
from trapline.common.channel.lease import GroupMember
from trapline.common.journal import PartitionReader
from trapline.schemas.message import decode_header, encode

DAY_US = 86_400_000_000


@pytest.fixture
def relay(tmp_path):
    with RelayProcess(tmp_path / "one") as process:
        yield process


def env(relay):
    return {"TRAPLINE__MESH__DATA_DIRECTORY": str(relay.directory)}


async def test_top_and_status_show_who_is_behind_in_records_and_seconds(relay, tmp_path):
    clock = iter(range(int(time.time() * 1e6) - 100_000_000, 1 << 60, 1000))
    with relay.writer("transients/0", clock=lambda: next(clock)) as writer:
        for n in range(5):
            writer.append(encode(message(n)))
        async with RelayConnection(relay.address) as connection:
            member = GroupMember(connection, "follow-up", "w", ("transients",))
            await member.ack(await member.lease(2, 5.0))
            done = trapline("top", "--json", "-n", "1", "--every", "0.2", cwd=tmp_path, env=env(relay))
            status = trapline("status", cwd=tmp_path, env=env(relay))
    seen = json.loads(done.stdout)
    (lag,) = [r for r in seen["readers"] if r["reader"] == "follow-up"]
    assert (lag["channel"], lag["records"]) == ("transients", 3) and 90 < lag["seconds"] < 1000
    (channel,) = [c for c in seen["channels"] if c["channel"] == "transients"]
    assert channel["records"] == 5 and channel["records_per_s"] == 0
    (status_channel,) = [c for c in seen["channels"] if c["channel"] == "status"]
    assert status_channel["records_per_s"] >= 0
    assert seen["hosts"][0]["disk_free_bytes"] > 0
    (line,) = [line for line in status.stdout.splitlines() if line.startswith("follow-up")]
    assert "3 behind" in line and "GB of disk left" in status.stdout


def test_top_without_a_terminal_prints_and_without_a_relay_says_so(relay, tmp_path):
    done = trapline("top", "-n", "1", "--every", "0.1", cwd=tmp_path, env=env(relay))
    assert done.returncode == 0 and "status" in done.stdout and "disk left" in done.stdout
    relay.kill()
    done = trapline("top", "-n", "1", cwd=tmp_path, env=env(relay))
    assert done.returncode == 1 and "no answer from the relay" in done.stderr


async def test_a_plug_in_that_will_not_come_back_is_forgotten_for_good(relay, tmp_path):
    with relay.writer("transients/0") as writer:
        writer.append(encode(message(0)))
    async with RelayConnection(relay.address) as connection:
        member = GroupMember(connection, "old-plugin", "w", ("transients",))
        await member.ack(await member.lease(2, 5.0))
    done = trapline("journal", "forget", "old-plugin", cwd=tmp_path, env=env(relay))
    assert done.stdout == "forgotten: the group old-plugin of transients/0\n"
    relay.kill()
    relay.start()
    again = trapline("journal", "forget", "old-plugin", cwd=tmp_path, env=env(relay))
    assert again.returncode == 1 and "there is no group or reader 'old-plugin'; there are " in again.stderr


def ids(directory, name):
    reader = PartitionReader(directory / "journal" / name)
    return [decode_header(frame).id for _, frame in reader.first_frames(0)]


@pytest.fixture
def recorded(tmp_path):
    """Return the directory of a mesh that is over: two partitions, a record a second, in turns."""
    old = RelayProcess(tmp_path / "old")
    start_us = 20_000 * DAY_US
    for offset, name in enumerate(("transients/0", "transients/1")):
        times = iter(range(start_us + offset * 500_000, 1 << 60, 1_000_000))
        with old.writer(name, clock=lambda times=times: next(times)) as writer:
            for n in range(5):
                writer.append(encode(message(10 * offset + n)))
    return old


def replay(recorded, relay, *arguments, tmp_path):
    return trapline(
        "journal", "replay", "transients", "--to", relay.address, *arguments, cwd=tmp_path, env=env(recorded)
    )


def test_a_replay_gives_another_mesh_the_same_records_in_order_once(recorded, relay, tmp_path):
    for _ in range(2):
        done = replay(recorded, relay, tmp_path=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"10 records are in the mesh at {relay.address}\n"), done.stderr
    for name in ("transients/0", "transients/1"):
        assert ids(relay.directory, name) == ids(recorded.directory, name)
    with connect(relay.address) as mesh:
        assert "transients" in mesh.channels()


def test_a_stretch_is_replayed_at_its_speed(recorded, relay, tmp_path):
    # 20,000 days after 1970 is 2024-10-04.
    stretch = ("--from", "2024-10-04T00:00:01", "--until", "2024-10-04T00:00:03", "--speed", "0.5")
    done = replay(recorded, relay, *stretch, tmp_path=tmp_path)
    assert done.stdout == f"4 records are in the mesh at {relay.address}\n", done.stderr
    assert ids(relay.directory, "transients/1") == ids(recorded.directory, "transients/1")[1:3]
    times = [
        PartitionReader(relay.directory / "journal" / f"transients/{p}").time_of(n) for n in (0, 1) for p in (0, 1)
    ]
    # Half a second apart each, at half the speed: 3 s, of which a slow machine may take some before the first.
    assert times[-1] - times[0] >= 1_000_000


def test_what_cannot_be_replayed_is_said(recorded, relay, tmp_path):
    done = trapline("journal", "replay", "transients", "--to", relay.address, cwd=tmp_path, env=env(relay))
    assert done.returncode == 2 and "is the mesh whose journals these are" in done.stderr
    done = replay(recorded, relay, "--from", "yesterday", tmp_path=tmp_path)
    assert done.returncode == 2 and "'yesterday' is not a start" in done.stderr
    done = trapline("journal", "replay", "nothing", "--to", relay.address, cwd=tmp_path, env=env(recorded))
    assert done.returncode == 1 and "there is no nothing; there are transients/0" in done.stderr
    relay.kill()
    done = replay(recorded, relay, "--patience", "0", tmp_path=tmp_path)
    assert done.returncode == 1 and "no answer from the relay" in done.stderr
