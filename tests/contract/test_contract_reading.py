"""What every backend does for those who append and read."""

import asyncio
import os

import pytest

from contract_backends import LIMIT_BYTES
from contract_records import at, fetch, fill, number_of, record
from trapline.common.channel import ChannelReader, Gap, Record, RelayRefusedError
from trapline.common.channel.lookup import record_at
from trapline.common.relay.requests import Fetch, Position, Read
from trapline.schemas.header import Place
from waiting import until


async def test_places_count_up_without_holes_in_each_partition(channels):
    assert await fill(channels, 3) == [Place("images", "0", 0, seq) for seq in range(3)]
    assert await fill(channels, 1, partition="1") == [Place("images", "1", 0, 0)]


async def test_a_record_with_a_known_id_is_not_appended_again(channels):
    first = await channels.append("images", "0", record(1, b"x"))
    await channels.append("images", "0", record(2))
    assert await channels.append("images", "0", record(1, b"x")) == first
    _, records = await fetch(channels, at(0))
    assert [number_of(r) for r in records] == [1, 2]


@pytest.mark.parametrize("frames", [[], [b"no map"], [b"\x80"]], ids=["nothing", "garbage", "no id"])
async def test_what_is_no_record_is_refused_with_the_reason_and_the_next_is_taken(channels, frames):
    with pytest.raises(RelayRefusedError, match=r"frames|header"):
        await channels.append("images", "0", frames)
    assert (await channels.append("images", "0", record(1))).seq == 0


async def test_a_wrong_name_is_refused(channels):
    with pytest.raises(RelayRefusedError, match="channel"):
        await channels.append("../images", "0", record(1))


async def test_frames_come_back_whole_and_in_order(channels):
    payloads = [os.urandom(n) for n in (0, 1, 63, 64, 1000, 60_000)]
    for i, payload in enumerate(payloads):
        await channels.append("images", "0", record(i, payload, b"", payload[:10]))
    _, records = await fetch(channels, at(0))
    assert [r.place.seq for r in records] == list(range(len(payloads)))
    assert [[bytes(f) for f in r.frames[1:]] for r in records] == [[p, b"", p[:10]] for p in payloads]
    times = [r.t_us for r in records]
    assert times == sorted(times) and times[0] > 0


async def test_an_answer_is_bounded_by_records_and_bytes_but_one_always_comes(channels):
    await fill(channels, 5, payload=bytes(10_000))
    assert [r.place.seq for r in (await fetch(channels, at(1), max_records=2))[1]] == [1, 2]
    assert [r.place.seq for r in (await fetch(channels, at(1), max_bytes=1))[1]] == [1]
    assert len((await fetch(channels, at(0), max_bytes=25_000))[1]) == 2


async def test_headers_alone_are_the_first_frames(channels):
    await fill(channels, 3, payload=bytes(10_000))
    _, records = await fetch(channels, at(0), headers_only=True)
    assert [(len(r.frames), number_of(r)) for r in records] == [(1, 0), (1, 1), (1, 2)]


async def test_info_names_every_partition_and_where_it_begins_and_ends(channels):
    await fill(channels, 2)
    await fill(channels, 1, channel="sources", partition="x")
    info = await channels.info()
    seen = {(p["channel"], p["partition"]): (p["first_seq"], p["next_seq"], p["epoch"]) for p in info["partitions"]}
    assert seen == {("images", "0"): (0, 2, 0), ("sources", "x"): (0, 1, 0)}
    assert all(p["bytes"] > 0 for p in info["partitions"])


async def test_a_fetch_waits_for_a_record_and_ends_without_one(connect):
    reader, writer = await connect(), await connect()
    await fill(writer, 1)
    assert await fetch(reader, at(1), wait_ms=50) == ([], [])
    waiting = asyncio.create_task(fetch(reader, at(1), wait_ms=20_000))
    await writer.append("images", "0", record(7))
    _, (found,) = await waiting
    assert number_of(found) == 7


async def test_a_new_partition_ends_a_wait(connect):
    reader, writer = await connect(), await connect()
    await fill(writer, 1)
    known = (await reader.info())["catalogue"]
    request = Fetch(cursors=[at(1)], wait_ms=20_000, catalogue=known)
    waiting = asyncio.create_task(reader.fetch(request))
    await fill(writer, 1, partition="1")
    reply = await waiting
    assert reply.values["catalogue"] != known and reply.values["slabs"] == []


async def test_a_time_finds_the_first_record_at_or_after_it(channels):
    await fill(channels, 3)
    _, records = await fetch(channels, at(0))
    for found in records:
        assert await channels.find("images", "0", found.t_us) <= found.place.seq
    assert await channels.find("images", "0", 0) == 0
    assert await channels.find("images", "0", records[-1].t_us + 1) == 3
    with pytest.raises(RelayRefusedError, match=r"no partition images/9; there are images/0"):
        await channels.find("images", "9", 0)


async def test_what_retention_dropped_is_a_gap_that_names_it(channels):
    count = 12
    await fill(channels, count, payload=bytes(LIMIT_BYTES // 4))
    async with asyncio.timeout(20):
        while (first := (await channels.info())["partitions"][0]["first_seq"]) == 0:
            await asyncio.sleep(0)
    (gap,), records = await fetch(channels, at(0), max_records=1)
    assert gap == Gap("images", "0", 0, records[0].place.seq, "retention") and gap.end_seq >= first
    assert await record_at(channels, Place("images", "0", 0, 0)) is None
    assert (await record_at(channels, Place("images", "0", 0, count - 1))).place.seq == count - 1


async def test_a_position_is_kept_by_name_whether_it_is_asked_or_told(channels):
    await fill(channels, 5)
    assert await channels.positions("me") == []
    await channels.position(Position(reader="me", reads=[Read("images", "0", 3, 2)]))
    assert await channels.positions("me") == [Read("images", "0", 3, 2)]
    channels.notify(Position(reader="me", reads=[Read("images", "0", 4, 4)]))
    async with asyncio.timeout(20):
        while await channels.positions("me") != [Read("images", "0", 4, 4)]:
            await asyncio.sleep(0)
    (row,) = (await channels.info())["readers"]
    assert (row["reader"], row["channel"], row["partition"], row["seq"], row["safe"]) == ("me", "images", "0", 4, 4)


async def test_a_reader_follows_all_partitions_also_those_that_come_later(connect):
    writer, reader = await connect(), ChannelReader(await connect(), ("images", "sources"))
    await fill(writer, 3)
    items = []

    async def read():
        while True:
            items.extend(await reader.read(1.0))

    reading = asyncio.create_task(read())
    await until(lambda: len(items) == 3)
    await fill(writer, 2, channel="sources", partition="later")
    await until(lambda: len(items) == 5)
    reading.cancel()
    assert all(isinstance(item, Record) for item in items)
    assert [i.place.seq for i in items] == [0, 1, 2, 0, 1]
    assert reader.ends == {("images", "0"): 3, ("sources", "later"): 2}
