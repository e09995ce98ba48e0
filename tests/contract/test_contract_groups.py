"""What every backend does for groups of workers."""

import asyncio

import pytest

from contract_records import fill, lease, number_of
from trapline.common.channel import GroupMember, RelayRefusedError
from trapline.common.relay.requests import Ack, Extend, Item, Leave, Nack, Position, Read
from waiting import until


def items(records):
    return [Item(r.place.channel, r.place.partition, r.place.seq) for r in records]


async def floor(channels, partition="0"):
    found = [g for g in (await channels.info())["groups"] if g["partition"] == partition]
    return found[0]["floor"] if found else 0


async def lease_within(channels, seconds=20, **options):
    """Return leased records as soon as there are some."""
    async with asyncio.timeout(seconds):
        while not (found := await lease(channels, wait_ms=1000, **options)):
            pass
    return found


async def test_no_record_is_with_two_workers_and_what_is_done_does_not_come_back(connect):
    one, two = await connect(), await connect()
    await fill(one, 4)
    first, second = await lease(one, "a", max_records=2), await lease(two, "b", max_records=9)
    assert ([number_of(r) for r in first], [number_of(r) for r in second]) == ([0, 1], [2, 3])
    await one.ack(Ack(group="g", items=items(first + second)))
    assert await floor(one) == 4
    assert await lease(two, "b") == []


async def test_groups_do_not_share(channels):
    await fill(channels, 1)
    assert len(await lease(channels, group="g")) == len(await lease(channels, group="h")) == 1


async def test_what_is_done_out_of_order_waits_for_what_is_before(channels):
    await fill(channels, 3)
    records = await lease(channels, max_records=3)
    await channels.ack(Ack(group="g", items=items(records[1:])))
    assert await floor(channels) == 0
    await channels.ack(Ack(group="g", items=items(records[:1])))
    assert await floor(channels) == 3


async def test_a_lease_waits_for_a_record(connect):
    worker, writer = await connect(), await connect()
    waiting = asyncio.create_task(lease(worker, wait_ms=20_000))
    await fill(writer, 1)
    assert [number_of(r) for r in await waiting] == [0]


async def test_the_first_channel_of_a_lease_is_the_most_urgent(channels):
    await fill(channels, 1, channel="remeasure")
    await fill(channels, 1, channel="images")
    (found,) = await lease(channels, names=("images", "remeasure"))
    assert found.place.channel == "images"


async def test_headers_alone_can_be_leased_and_are_the_worker_s_as_ever(channels):
    await fill(channels, 2, payload=bytes(10_000))
    (found,) = await lease(channels, headers_only=True)
    assert (len(found.frames), number_of(found), found.attempts) == (1, 0, 0)
    (whole,) = await lease(channels, "other")
    assert (len(whole.frames), number_of(whole)) == (2, 1)
    await channels.ack(Ack(group="g", items=items([found, whole])))
    assert await floor(channels) == 2


async def test_a_worker_may_wait_for_several_channels_apart(connect):
    worker, writer = await connect(), await connect()
    both = [asyncio.create_task(lease(worker, names=(name,), wait_ms=20_000)) for name in ("images", "remeasure")]
    await fill(writer, 1, channel="remeasure")
    (asked,) = await both[1]
    assert asked.place.channel == "remeasure"
    assert not both[0].done()
    await fill(writer, 1, channel="images")
    (image,) = await both[0]
    assert image.place.channel == "images"


async def test_a_lease_that_is_not_extended_is_given_to_another(connect):
    one, two = await connect(), await connect()
    await fill(one, 1)
    (held,) = await lease(one, "a")
    assert await lease(two, "b") == []
    (again,) = await lease_within(two, worker="b")
    assert (again.place, again.attempts) == (held.place, 0)
    assert await one.extend(Extend(group="g", worker="a", items=items([held]))) == 0


async def test_a_lease_that_is_extended_stays(connect):
    one, two = await connect(), await connect()
    await fill(one, 1)
    held = await lease(one, "a")
    waiting = asyncio.create_task(lease(two, "b", wait_ms=1500))
    while not waiting.done():
        assert await one.extend(Extend(group="g", worker="a", items=items(held))) == 1
        await asyncio.wait({waiting}, timeout=0.05)
    assert waiting.result() == []


async def test_failures_are_counted_and_what_was_only_given_back_is_not(channels):
    await fill(channels, 1)
    for failed, attempts in ((False, 0), (True, 0), (True, 1), (False, 2)):
        (held,) = await lease(channels)
        assert held.attempts == attempts
        await channels.nack(Nack(group="g", items=items([held]), failed=failed))
    assert (await lease(channels))[0].attempts == 2


async def test_a_worker_that_leaves_gives_everything_back_without_an_attempt(connect):
    one, two = await connect(), await connect()
    await fill(one, 2)
    held = await lease(one, "a", max_records=2)
    await one.extend(Extend(group="g", worker="a", items=items(held), handling=items(held[:1])))
    await one.leave(Leave(group="g", worker="a"))
    assert [(number_of(r), r.attempts) for r in await lease(two, "b", max_records=2)] == [(0, 0), (1, 0)]


async def test_an_attempt_counts_against_what_was_handled_when_the_lease_ended(connect):
    one, two = await connect(), await connect()
    await fill(one, 2)
    held = await lease(one, "a", max_records=2)
    await one.extend(Extend(group="g", worker="a", items=items(held), handling=items(held[:1])))
    found = {}

    async def collect():
        while len(found) < 2:
            found.update({number_of(r): r.attempts for r in await lease(two, "b", max_records=2, wait_ms=500)})

    async with asyncio.timeout(20):
        await collect()
    assert found == {0: 1, 1: 0}


async def test_members_share_a_channel_and_lose_nothing(connect):
    writer = await connect()
    seen = {"a": [], "b": []}

    async def work(name):
        member = GroupMember(await connect(), "g", name, ("images",))
        while True:
            records = await member.lease(3, 1.0)
            for record in records:
                await member.begin(record)
                seen[name].append(number_of(record))
            await member.ack(records)

    workers = [asyncio.create_task(work(name)) for name in seen]
    await fill(writer, 40)
    await until(lambda: len(seen["a"]) + len(seen["b"]) >= 40)
    for task in workers:
        task.cancel()
    assert sorted(seen["a"] + seen["b"]) == list(range(40))


async def test_who_is_forgotten_needs_nothing_any_more_but_never_one_at_work(channels):
    await fill(channels, 3)
    records = await lease(channels, max_records=2)
    with pytest.raises(RelayRefusedError, match="stop them first"):
        await channels.forget("g")
    await channels.ack(Ack(group="g", items=items(records)))
    with pytest.raises(RelayRefusedError, match="stop them first"):
        await channels.forget("g")
    await channels.leave(Leave(group="g", worker="w"))
    await channels.position(Position(reader="g", reads=[Read("images", "0", 3, 2)]))
    forgotten = await channels.forget("g")
    assert forgotten == [{"kind": kind, "channel": "images", "partition": "0"} for kind in ("group", "reader")]
    info = await channels.info()
    assert (info["groups"], info["readers"], await channels.forget("g")) == ([], [], [])
    assert [number_of(r) for r in await lease(channels, max_records=9)] == [0, 1, 2], "it begins anew"


async def test_a_group_whose_worker_waits_is_at_work(connect):
    worker, other = await connect(), await connect()
    waiting = asyncio.create_task(lease(worker, wait_ms=20_000))
    async with asyncio.timeout(20):
        while True:
            try:
                await other.forget("g")
                # A backend in memory answers at once: the worker, too, must have its turn.
                await asyncio.sleep(0)
            except RelayRefusedError:
                break
    await fill(other, 1)
    assert [number_of(r) for r in await waiting] == [0]


async def test_what_is_done_is_given_out_once_more_when_it_is_asked_for(connect):
    one, two = await connect(), await connect()
    await fill(one, 3)
    records = await lease(one, "a", max_records=3)
    await one.ack(Ack(group="g", items=items(records[:2])))
    await two.nack(Nack(group="g", items=items(records), again=True))
    again = await lease_within(two, worker="b", max_records=9)
    # The third was never done, and still is with its worker.
    assert ([number_of(r) for r in again], [r.attempts for r in again]) == ([0, 1], [0, 0])
    assert await floor(one) == 2
    await two.ack(Ack(group="g", items=items(again)))
    await one.ack(Ack(group="g", items=items(records[2:])))
    assert await floor(one) == 3
    assert await lease(two, "b") == []
