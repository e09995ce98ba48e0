"""How long records are kept: what is needed up to a hard limit, then a gap and an alarm, or writers that wait."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from common_relay import Bench, item
from trapline.common.channel import ChannelReader, Gap, RelayConnection
from trapline.common.config import ConfigError
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.spares import MOST_SPARES
from trapline.common.relay.config import Retention
from trapline.common.relay.requests import Position, Read
from trapline.common.relay.retention import Keeper
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.publishing import publish
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.examples import example_messages
from trapline.schemas.images import Images
from waiting import until

IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def keeper(bench, rule, free_bytes=lambda: 1 << 60, **options):
    core = bench.core
    return Keeper(core.catalogue, core.groups, core.readers, {"*": rule}, free_bytes=free_bytes, **options)


def fill(bench, name="images/0", count=10):
    """Append records, each with a segment of its own, and return the reader of the relay."""
    for _ in range(count):
        bench.append(name, 3000, segment_bytes=4096)
    bench.later()
    return bench.core.catalogue.get(*name.split("/"))


def test_what_groups_and_readers_still_need_is_kept(bench):
    reader, kept = fill(bench), keeper(bench, Retention(limit_bytes=1))
    bench.lease(max_records=4)
    bench.ask(op="position", reader="a-0", reads=[{**item(10), "safe": 2}])
    assert kept.apply(0).size == 0
    bench.ask(op="ack", group="g", items=[item(seq) for seq in range(4)])
    assert kept.apply(0).size > 0 and reader.first_seq == 2
    bench.ask(op="position", reader="a-0", reads=[{**item(10), "safe": 8}])
    assert kept.apply(0).size > 0 and reader.first_seq == 4
    assert kept.apply(0) == (0, [])


def test_by_age_old_segments_only_are_given_up(bench):
    reader, kept = fill(bench, count=6), keeper(bench, Retention(age_s=100))
    newest_us = reader.time_of(5)
    assert kept.apply(newest_us).size == 0
    assert kept.apply(newest_us + 200_000_000).size > 0
    assert reader.first_seq == 5


def test_at_the_hard_limit_what_is_needed_goes_with_an_alarm_that_names_who_needed_it(bench):
    reader, kept = fill(bench), keeper(bench, Retention(hard_limit_bytes=5 * 4096))
    bench.lease(max_records=1)
    bench.ask(op="ack", group="g", items=[item(0)])
    bench.ask(op="position", reader="dead", reads=[{**item(1), "safe": 1}])
    freed = kept.apply(0)
    assert reader.first_seq == 5
    assert freed.size == 5 * 4096
    # Record 0 was done, so that nobody lost it.
    assert [(f.first_seq, f.end_seq) for f in freed.forced] == [(seq, seq + 1) for seq in range(1, 5)]
    assert freed.forced[0][:2] == ("images", "0")
    assert freed.forced[0].needed_by == ["g", "dead"]
    assert bench.lease(max_records=1).seqs == [5]
    assert bench.core.counters["records_dropped_unread"] == 4


def test_a_channel_that_stops_loses_nothing(bench):
    reader = fill(bench)
    kept = keeper(bench, Retention(hard_limit_bytes=4096, at_limit="stop"), lambda: 0, min_free_bytes=1)
    bench.lease()
    assert kept.apply(0) == (0, [])
    assert reader.first_seq == 0


def test_a_disk_that_fills_takes_first_what_nobody_needs(bench):
    needed, free = fill(bench, "images/0"), fill(bench, "sources/0", 6)
    bench.lease()
    left = [0]
    kept = keeper(bench, Retention(), lambda: left[0], min_free_bytes=3 * 4096)
    assert kept.apply(0).forced == []
    assert (needed.first_seq, free.first_seq) == (0, 3)
    left[0] = -(6 * 4096)
    freed = kept.apply(0)
    assert free.first_seq == 5, "the newest segment stays: it is being written"
    assert needed.first_seq == 7
    assert len(freed.forced) == 7


def test_the_hard_limit_is_not_below_the_other():
    with pytest.raises(ConfigError, match="hard_limit_bytes"):
        mesh_config(".", journal={"channels": {"images": {"retention": {"limit_bytes": 9, "hard_limit_bytes": 5}}}})


def test_a_writer_that_must_stop_says_so_and_goes_on_when_there_is_room(tmp_path):
    with JournalWriter(tmp_path, segment_bytes=4096, limit_bytes=3 * 4096) as writer:
        assert [writer.append([bytes(3000)]) for _ in range(3)] == [0, 1, 2]
        reader = PartitionReader(tmp_path)
        with pytest.raises(OSError, match="still needed"):
            writer.append([bytes(3000)])
        reader.drop_before(1)
        assert writer.append([bytes(3000)]) == 3
    assert PartitionReader(tmp_path).next_seq == 4


def test_a_writer_keeps_the_last_of_the_disk_free(tmp_path):
    with (
        JournalWriter(tmp_path, segment_bytes=4096, min_free_bytes=1 << 60) as writer,
        pytest.raises(OSError, match="bytes left"),
    ):
        writer.append([b"x"])
    assert PartitionReader(tmp_path).next_seq == 0


def channel(**retention):
    return {"channels": {"images": {"segment_bytes": 65536, "retention": retention}}}


async def test_a_service_at_a_hard_limit_waits_until_its_reader_has_caught_up_and_loses_nothing(tmp_path):
    limits = channel(limit_bytes=1, hard_limit_bytes=4 * 65536, at_limit="stop")
    config = mesh_config(tmp_path, journal=limits, relay={"retention_s": 0.05})
    with running_relay(config):
        async with (
            open_context("image_ingest", config, "0") as context,
            RelayConnection(f"ipc://{config.ipc_path}") as c,
        ):
            reader = ChannelReader(c, ("images",))
            await c.request(_position(0))
            work = asyncio.create_task(publish(context, [IMAGE] * 200))
            await until(lambda: context.counters["disk_full_waits"])
            assert "still needed" in context.last_error
            seqs = []
            while len(seqs) < 200:
                items = await reader.read(1.0)
                assert not any(isinstance(i, Gap) for i in items)
                seqs += [i.place.seq for i in items]
                if seqs:
                    await c.request(_position(seqs[-1] + 1))
            await work
            assert seqs == list(range(200))
            with contextlib.suppress(FileNotFoundError):
                assert sum(p.stat().st_size for p in (config.journal_directory / "images/0").glob("*.log")) <= 4 * 65536


async def test_at_a_hard_limit_a_slow_reader_gets_a_gap_and_the_writer_goes_on(tmp_path):
    config = mesh_config(tmp_path, journal=channel(hard_limit_bytes=4 * 65536), relay={"retention_s": 0.05})
    with running_relay(config) as relay:
        async with (
            open_context("image_ingest", config, "0") as context,
            RelayConnection(f"ipc://{config.ipc_path}") as c,
        ):
            await c.request(_position(0))
            await publish(context, [IMAGE] * 200)
            found = relay.core.catalogue.get
            await until(lambda: (r := found("images", "0")) and r.next_seq == 200 and r.size_bytes <= 4 * 65536)
            # Counted once the segments are gone.
            await until(lambda: relay.core.counters["retention_records_forced"])
            assert not context.counters["disk_full_waits"]
            reader, items = ChannelReader(c, ("images",), start=0), []
            while not items or not reader.caught_up:
                items += await reader.read(1.0)
            assert isinstance(items[0], Gap)
            assert items[0].reason == "retention"
            assert [i.place.seq for i in items[1:]] == list(range(items[0].end_seq, 200))


def _position(seq):
    return Position(reader="slow", reads=[Read("images", "0", seq=seq, safe=seq)])


async def test_a_channel_may_be_synced_less_often_than_others(tmp_path):
    own = {"sync_s": 0.1, "channels": {"images": {"sync_s": 0}}}
    config = mesh_config(tmp_path, journal=own)
    with running_relay(config):
        async with open_context("image_ingest", config, "0") as context:
            context.outputs.append([IMAGE])
            await until(lambda: context.outputs.writer("status").next_seq)
            await context.outputs.sync()
            assert context.outputs.writer("images").synced_seq == 0
            status = context.outputs.writer("status")
            assert status.synced_seq == status.next_seq > 0


@pytest.mark.parametrize("free_bytes", [0, 4096 + 4095], ids=["full", "full with one segment more"])
def test_a_relay_leaves_files_to_their_writers_but_not_on_a_full_disk(bench, free_bytes):
    reader, left = fill(bench), [1 << 40]
    kept = keeper(bench, Retention(limit_bytes=1), lambda: left[0], min_free_bytes=4096)
    fill(bench, count=1)
    assert (kept.is_due(), kept.is_due()) == (True, False), "a segment was filled"
    kept.apply(0)
    assert len(list(reader.directory.glob("spare-*"))) == MOST_SPARES
    left[0] = 4096 + 4096
    kept.apply(0)
    assert len(list(reader.directory.glob("spare-*"))) == MOST_SPARES, "there is room for a segment"
    left[0] = free_bytes
    kept.apply(0)
    assert not list(reader.directory.glob("spare-*"))
