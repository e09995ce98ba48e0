"""What happens on a disk that is really full. Run by `test_full_disk.py` inside a small file system of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest

from common.runtime.test_runtime_fold import IMAGE, Chain, expected, said
from common_relay import Bench, item
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.publishing import publish
from trapline.common.runtime.snapshot import read_snapshot
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import until

SMALL = {"segment_bytes": 1 << 16, "retention": {}}


@pytest.fixture
def full(tmp_path):
    """Return a call that fills the disk to the last byte; `room` gives it back."""
    ballast = tmp_path / "ballast"

    def fill():
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, bytes(size))
        os.close(descriptor)

    fill.room = ballast.unlink
    return fill


def small_mesh(tmp_path, **channels):
    journal = {"min_free_bytes": 0, "channels": {"*": SMALL, **channels}}
    return mesh_config(tmp_path, journal=journal, runtime={"snapshot_s": 0.1}, relay={"retention_s": 0.1})


def payload(seq):
    return [b"%d" % seq, bytes([seq % 251]) * 3000]


def append_for_ever(writer):
    """Append until that fails: what fits in the room that was set aside is taken."""
    while True:
        writer.append(payload(writer.next_seq))


def test_a_journal_has_no_torn_record_and_goes_on(tmp_path, full):
    with JournalWriter(tmp_path / "0", segment_bytes=1 << 16) as writer:
        writer.append(payload(0))
        full()
        with pytest.raises(OSError, match="No space left"):
            append_for_ever(writer)
        end = writer.next_seq
        reader = PartitionReader(tmp_path / "0")
        assert end > 10 and reader.next_seq == end and list(reader.verify()) == []
        with pytest.raises(OSError, match="No space left"):
            JournalWriter(tmp_path / "1", segment_bytes=4096)
        full.room()
        for seq in range(end, end + 50):
            assert writer.append(payload(seq)) == seq
        reader.refresh()
        assert [bytes(frame) for _, frame in reader.first_frames(0)] == [b"%d" % i for i in range(end + 50)]
        full()
    # Closed on a full disk, and opened on it again, which is one unclean end more and nothing worse.
    full.room()
    with JournalWriter(tmp_path / "0") as again, JournalWriter(tmp_path / "1", segment_bytes=4096) as other:
        assert (again.next_seq, other.append([b"x"])) == (end + 50, 0)
        assert list(PartitionReader(tmp_path / "0").verify()) == []


def test_a_relay_remembers_what_the_disk_did_not_take_once_there_is_room(tmp_path, full):
    bench = Bench(tmp_path)
    bench.append("images/0", *[10] * 400)
    bench.later()
    bench.lease(max_records=400)
    full()
    seq = 0
    while not bench.core.counters["memory_failures"]:
        assert bench.ask(op="ack", group="g", items=[item(seq)]).values["ok"]
        seq += 2
        bench.later()
    full.room()
    bench.later()
    bench.core._memory.close()
    bench.start()
    assert bench.lease(max_records=1000).seqs == [i for i in range(400) if i % 2 or i >= seq]
    bench.close()


async def test_a_relay_that_starts_on_a_full_disk_frees_it(tmp_path, full):
    config = small_mesh(tmp_path, images={"segment_bytes": 1 << 16, "retention": {"limit_bytes": 1}})
    with running_relay(config):
        pass
    with JournalWriter(config.journal_directory / "images" / "0", segment_bytes=1 << 16) as writer:
        for seq in range(100):
            writer.append(payload(seq))
        full()
        with pytest.raises(OSError, match="No space left"):
            append_for_ever(writer)
        with running_relay(config) as relay:
            await until(lambda: relay.core.counters["retention_bytes_freed"])
            assert writer.append(payload(writer.next_seq))
    full.room()


async def test_a_service_waits_for_room_and_publishes_everything(tmp_path, full):
    config = small_mesh(tmp_path)
    with running_relay(config):
        async with open_context("image_ingest", config, "0") as context:
            await publish(context, [IMAGE])
            full()
            work = asyncio.create_task(publish(context, [IMAGE] * 200))
            await until(lambda: context.counters["disk_full_waits"])
            assert "No space left" in context.last_error
            full.room()
            assert [place.seq for place in await work] == list(range(1, 201))


async def test_a_fold_lives_without_snapshots_until_there_is_room(tmp_path, full):
    config = small_mesh(tmp_path)
    with running_relay(config):
        async with (
            open_context("image_ingest", config, "0") as ingest,
            open_context("associator", config, "0") as context,
        ):
            runner = FoldRunner(context, Chain())
            work = asyncio.create_task(runner.run())
            await publish(ingest, [IMAGE] * 10)
            await until(runner._path.exists)
            full()
            await until(lambda: context.counters["snapshots_failed"] > 2)
            assert not work.done()
            assert not runner._path.with_name(runner._path.name + ".new").exists()
            read_snapshot(runner._path)
            full.room()
            await publish(ingest, [IMAGE] * 50)
            await until(lambda: runner._safe.get(("images", "0")) == 60)
            context.draining.set()
            await work
    assert [header.image.id for header in said(config)] == expected(60)
