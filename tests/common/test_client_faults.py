"""The client against a real relay that is killed, stopped and started: nothing lost, nothing twice, gaps named."""

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys

import pytest

from client_forms import FORMS, message, seqs
from relay_process import RelayProcess
from trapline.client import Gap
from trapline.common.channel import RelayConnection, RelayUnreachableError
from trapline.schemas.message import encode
from waiting import until


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture
def relay(tmp_path):
    with RelayProcess(tmp_path / "mesh") as process:
        yield process


@pytest.fixture
def journal(relay):
    with relay.writer("transients/0", segment_bytes=8192) as writer:
        yield lambda *numbers: [writer.append(encode(message(n))) for n in numbers]


@contextlib.asynccontextmanager
async def collecting(client, *arguments, **options):
    """Collect what a subscription yields while the block lasts."""
    items = []
    task = asyncio.create_task(client.into(items, "subscribe", *arguments, **options))
    try:
        yield items
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def told(relay, name, seq):
    """Return when the relay knows that a named subscription is so far, and what it said."""
    async with RelayConnection(relay.address) as other, asyncio.timeout(20):
        while not (found := await other.positions(name)) or found[0].seq != seq:
            await asyncio.sleep(0.01)
        return found[0]


async def test_a_subscription_outlives_relays_that_are_killed(form, relay, journal):
    async with form(relay.address) as client, collecting(client, "transients", start="first") as items:
        for round_ in range(3):
            journal(*range(10))
            await until(lambda n=10 * round_ + 5: len(items) >= n, 40)
            relay.kill()
            journal(*range(10))
            relay.start()
        await until(lambda: len(items) >= 60, 40)
    assert seqs(items) == list(range(60))


async def test_a_stopped_relay_is_waited_for_and_nothing_comes_twice(form, relay, journal):
    async with form(relay.address) as client, collecting(client, "transients", start="first") as items:
        journal(*range(5))
        await until(lambda: len(items) == 5)
        relay.signal(signal.SIGSTOP)
        journal(*range(5))
        with pytest.raises(RelayUnreachableError, match="no answer"):
            await client.call("channels")
        relay.signal(signal.SIGCONT)
        await until(lambda: len(items) == 10)
        assert "transients" in await client.call("channels")
    assert seqs(items) == list(range(10))


async def test_a_publisher_waits_for_a_relay_that_is_away_and_its_record_is_there_once(form, relay):
    async with form(relay.address) as client:
        assert (await client.call("publish", message(0), name="me")).seq == 0
        relay.signal(signal.SIGSTOP)
        publishing = asyncio.create_task(client.call("publish", message(1), name="me"))
        await asyncio.wait({publishing}, timeout=0.2)
        relay.kill()
        relay.start()
        assert (await publishing).seq == 1
        assert (await client.call("publish", message(1), name="me")).seq == 1
        relay.kill()
        with pytest.raises(RelayUnreachableError, match="no answer"):
            await client.call("publish", message(2), name="me", patience_s=0)


async def test_a_late_joiner_begins_where_it_is_told(form, relay, journal):
    journal(*range(8))
    async with form(relay.address) as client:
        for start, expected in (("first", [0, 1]), (6, [6, 7]), ("2020-01-01T00:00:00", [0, 1])):
            async with collecting(client, "transients", start=start) as items:
                await until(lambda found=items: len(found) >= 2)
            assert seqs(items[:2]) == expected


async def test_a_slow_reader_beyond_retention_gets_a_gap_that_names_what_is_gone(form, tmp_path):
    limits = '{"*": {"segment_bytes": 8192, "retention": {"hard_limit_bytes": 32768}}}'
    settings = {"TRAPLINE__JOURNAL__CHANNELS": limits, "TRAPLINE__RELAY__RETENTION_S": "0.05"}
    with (
        RelayProcess(tmp_path / "mesh", **settings, TRAPLINE__JOURNAL__MIN_FREE_BYTES="0") as relay,
        relay.writer("transients/0", segment_bytes=8192) as writer,
    ):
        for n in range(100):
            writer.append(encode(message(n)))
        async with RelayConnection(relay.address) as connection, asyncio.timeout(30):
            while await connection.find("transients", "0", 0) == 0:
                await asyncio.sleep(0.01)
        async with form(relay.address) as client, collecting(client, "transients", start=0, gaps=True) as items:
            await until(lambda: items and not isinstance(items[-1], Gap) and items[-1].place.seq == 99)
    # Retention may go on while it reads: whatever is missing is in a gap, and nothing twice.
    spans = [(i.first_seq, i.end_seq) if isinstance(i, Gap) else (i.place.seq, i.place.seq + 1) for i in items]
    assert isinstance(items[0], Gap) and items[0].reason == "retention"
    assert spans[0][0] == 0 and spans[-1][1] == 100
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("end", ["orderly", "relay killed"])
async def test_a_named_subscription_goes_on_where_it_was_left(form, relay, journal, end):
    journal(*range(4))
    for first in (0, 4, 8):
        async with form(relay.address) as client, collecting(client, "transients", start="first", name="me") as items:
            await until(lambda found=items: len(found) == 4)
            await told(relay, "me", first + 4)
            if end == "relay killed":
                relay.kill()
                relay.start()
        assert seqs(items) == list(range(first, first + 4))
        journal(*range(4))


async def test_the_latest_start_of_a_named_subscription_counts_once(form, relay, journal):
    journal(*range(3))
    async with form(relay.address) as client, collecting(client, "transients", name="me"):
        await told(relay, "me", 3)
    journal(*range(2))
    with relay.writer("transients/late") as writer:
        writer.append(encode(message(9)))
    async with form(relay.address) as client, collecting(client, "transients", name="me") as items:
        await until(lambda: len(items) == 3)
    assert sorted((i.place.partition, i.place.seq) for i in items) == [("0", 3), ("0", 4), ("late", 0)]


@pytest.mark.parametrize("pin", [False, True])
async def test_a_name_keeps_records_only_when_it_says_so(form, relay, journal, pin):
    journal(*range(3))
    options = {"start": "first", "name": "me", "pin": pin}
    async with form(relay.address) as client, collecting(client, "transients", **options):
        assert ((await told(relay, "me", 3)).safe == 3) == pin


async def test_requests_end_at_their_deadline_when_nobody_answers(form, tmp_path):
    async with form("tcp://127.0.0.1:9") as client:
        for call in (("channels",), ("lease", "g", "images")):
            with pytest.raises(RelayUnreachableError, match=r"no answer.*is it running"):
                await client.call(*call, **({"wait_s": 0.1} if call[0] == "lease" else {}))


_WAITS = """
import signal, threading
from trapline.client import connect
print("waiting", flush=True)
threading.Timer(1.0, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
with connect("tcp://127.0.0.1:1") as mesh:
    for event in mesh.subscribe("transients"):
        pass
"""


def test_ctrl_c_that_another_thread_gets_ends_a_client_that_waits_for_ever():
    """The kernel chooses the thread that a signal interrupts; only the main one raises what it means."""
    ended = subprocess.run([sys.executable, "-c", _WAITS], capture_output=True, text=True, timeout=60, check=False)
    assert "waiting" in ended.stdout
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
