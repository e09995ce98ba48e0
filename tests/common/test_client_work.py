"""Work calls of the client: one worker at a time, redelivery, attempts, dead letters; also when the relay dies."""

import asyncio
import contextlib
import signal

import pytest

from client_forms import FORMS, message, seqs
from relay_process import RelayProcess
from trapline.client import connect
from trapline.common.channel import ChannelReader, RelayConnection
from trapline.common.journal import JournalWriter
from trapline.schemas.message import encode
from waiting import until


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture
def relay(tmp_path):
    with RelayProcess(tmp_path / "mesh", TRAPLINE__RELAY__LEASE_S="1") as process:
        yield process


@pytest.fixture
def journal(relay):
    with JournalWriter(relay.config.journal_directory / "transients" / "0") as writer:
        yield lambda *numbers: [writer.append(encode(message(n))) for n in numbers]


async def floor(relay):
    async with RelayConnection(relay.address) as connection:
        return max((g["floor"] for g in (await connection.info())["groups"]), default=0)


async def all_done(relay, count):
    async with asyncio.timeout(40):
        while await floor(relay) != count:
            await asyncio.sleep(0.01)


async def test_workers_share_and_each_record_is_done_once(form, relay, journal):
    journal(*range(20))
    seen = []
    async with form(relay.address) as one, form(relay.address) as two:
        tasks = [asyncio.create_task(client.into(seen, "work", "g", "transients")) for client in (one, two)]
        await all_done(relay, 20)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=0)
    assert sorted(seqs(seen)) == list(range(20))


async def test_a_lease_is_kept_for_as_long_as_the_work_takes(form, relay, journal):
    journal(0)
    async with form(relay.address) as one, form(relay.address) as two:
        (held,) = await one.call("lease", "g", "transients")
        # Twice as long as a lease lasts.
        assert await two.call("lease", "g", "transients", wait_s=2.0) == []
        await one.call("done", held)
        assert await floor(relay) == 1


async def test_what_is_given_back_is_given_out_again(form, relay, journal):
    journal(0)
    async with form(relay.address) as client:
        for failed, attempts in ((False, 0), (True, 0), (True, 1)):
            (event,) = await client.call("lease", "g", "transients")
            assert event.record.attempts == attempts
            await client.call("give_back", event, failed=failed)


async def test_one_that_fails_again_and_again_is_put_aside_and_the_next_is_worked_on(form, relay, journal):
    journal(0, 1)
    for _ in range(3):
        with contextlib.suppress(ZeroDivisionError):
            async with form(relay.address) as client:
                (event,) = await client.call("lease", "g", "transients")
                assert event.place.seq == 0
                raise ZeroDivisionError
    async with form(relay.address) as client:
        found = []
        async with asyncio.timeout(20):
            while not found:
                found = await client.call("lease", "g", "transients")
        assert seqs(found) == [1]
    async with RelayConnection(relay.address) as connection:
        (letter,) = await ChannelReader(connection, ("dead_letters",)).read()
    assert (letter.header.service, letter.header.place.seq) == ("g", 0)
    assert "tried 3 times" in letter.header.traceback


async def test_what_is_no_message_is_put_aside(form, relay):
    with JournalWriter(relay.config.journal_directory / "images" / "0") as images:
        images.append([b"\xc1 garbage"])
        images.append(encode(message(1)))
    async with form(relay.address) as client:
        found = []
        async with asyncio.timeout(20):
            while not found:
                found = await client.call("lease", "g", "images")
    assert seqs(found) == [1]


async def test_work_goes_on_when_the_relay_is_killed_and_stopped(form, relay, journal):
    journal(*range(5))
    seen = []
    async with form(relay.address) as client:
        task = asyncio.create_task(client.into(seen, "work", "g", "transients"))
        await until(lambda: seen)
        relay.kill()
        relay.start()
        journal(*range(5))
        await until(lambda: len(set(seqs(seen))) == 10, 40)
        relay.signal(signal.SIGSTOP)
        journal(0)
        relay.signal(signal.SIGCONT)
        await all_done(relay, 11)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=0)
    # With the relay its leases died: a record may have been given out again, and none was left out.
    assert set(seqs(seen)) == set(range(11))


def test_a_blocking_worker_may_take_longer_than_a_lease(relay, journal):
    journal(0, 1)
    done = []
    with connect(relay.address) as mesh, connect(relay.address) as other:
        for event in mesh.work("g", "transients"):
            if not done:
                # This thread is busy; that of the client keeps the lease.
                assert [e.place.seq for e in other.lease("g", "transients", wait_s=0.1)] == [1]
                assert other.lease("g", "transients", wait_s=2.0) == []
            done.append(event.place.seq)
            break
        mesh.done(event)
    assert done == [0]
