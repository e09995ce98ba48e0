"""Sinks: everything is stored once, with its position, whatever the store does."""

import asyncio
import contextlib

import msgspec
import pytest

from trapline.common.journal import PartitionReader
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.sink import Sink, Unavailable
from trapline.schemas.message import decode_header
from waiting import until


class Ledger:
    """A store in memory that keeps records and positions together, and fails when asked to."""

    def __init__(self):
        self.seqs = []
        self.batches = []
        self.cursors = {}
        self.away = 0
        self.poison = set()
        self.mends = "never"

    async def positions(self):
        return list(self.cursors.values())

    async def store(self, records, positions):
        if self.away:
            self.away -= 1
            raise Unavailable("the database is not there")
        if bad := [r.place.seq for r in records if r.place.seq in self.poison]:
            raise ValueError(f"cannot store {bad}")
        self.seqs += [record.place.seq for record in records]
        self.batches.append(len(records))
        self.cursors |= {(c.channel, c.partition): c for c in positions}

    async def mended(self, record):
        if self.mends == "fails":
            raise ArithmeticError("the mender broke")
        if self.mends == "never":
            return None
        self.poison -= {record.place.seq} if self.mends == "well" else set()
        return msgspec.structs.replace(record, frames=[b"half"]), "row 7: it is green"


@contextlib.asynccontextmanager
async def sinking(config, ledger, **options):
    async with open_context("database_dumper", config, "0") as context:
        settings = {"reads": ("things",), "reads_headers": (), "flush_s": 0.05, "flush_records": 10} | options
        sink = Sink(context, ledger, **settings)
        work = asyncio.create_task(sink.run())
        yield context
        context.draining.set()
        await asyncio.wait_for(work, 20)


@pytest.fixture
async def things(config, relay):
    async with open_context("image_ingest", config, "0") as context:
        yield context.outputs.writer("things")


async def test_records_are_stored_in_batches_with_their_position(config, relay, things):
    ledger = Ledger()
    things.append_many([[b"%d" % i] for i in range(35)])
    async with sinking(config, ledger):
        await until(lambda: len(ledger.seqs) == 35)
        await until(lambda: relay.core.readers.floor("things", "0") == 35)
    assert ledger.seqs == list(range(35))
    assert ledger.cursors["things", "0"] == Cursor("things", "0", 35, 0)


async def test_a_restart_goes_on_behind_the_stored_position(config, relay, things):
    ledger = Ledger()
    for total in (5, 12):
        things.append_many([[b"x"]] * (total - len(ledger.seqs)))
        async with sinking(config, ledger):
            await until(lambda total=total: len(ledger.seqs) == total)
    assert ledger.seqs == list(range(12))


async def test_draining_stores_what_was_read(config, relay, things):
    ledger = Ledger()
    things.append_many([[b"x"]] * 3)
    async with sinking(config, ledger, flush_s=60) as context:
        await until(lambda: context.reading.get(("things", "0"), (0, 0))[1] == 3)
        assert ledger.seqs == []
    assert ledger.seqs == [0, 1, 2]


async def test_a_store_that_is_away_is_waited_for_and_nothing_is_lost(config, relay, things):
    ledger = Ledger()
    ledger.away = 3
    things.append_many([[b"x"]] * 7)
    async with sinking(config, ledger) as context:
        await until(lambda: ledger.away < 2)
        assert (context.state, context.last_error) == ("waiting", "the database is not there")
        await until(lambda: len(ledger.seqs) == 7)
        assert context.state == "running"
        assert context.last_error is None


async def test_what_cannot_be_stored_is_found_and_put_aside_and_the_rest_is_stored(config, relay, things):
    ledger = Ledger()
    ledger.poison = {0, 6, 9}
    things.append_many([[b"x"]] * 10)
    async with sinking(config, ledger) as context:
        await until(lambda: len(ledger.seqs) == 7)
        await until(lambda: ledger.cursors["things", "0"].seq == 10)
        assert context.counters["dead_letters"] == 3
    assert ledger.seqs == [1, 2, 3, 4, 5, 7, 8]
    assert PartitionReader(config.journal_directory / "dead_letters/database_dumper-0").next_seq == 3


@pytest.mark.parametrize("mends", ["well", "badly", "fails"])
async def test_what_can_be_stored_of_a_record_is_and_the_rest_is_put_aside(config, relay, things, mends):
    ledger = Ledger()
    ledger.poison, ledger.mends = {2}, mends
    things.append_many([[b"x"]] * 5)
    async with sinking(config, ledger) as context:
        await until(lambda: ledger.cursors.get(("things", "0"), Cursor("things", "0", 0, 0)).seq == 5)
        assert context.counters["dead_letters"] == 1
        assert context.counters["records_mended"] == (mends == "well")
    assert ledger.seqs == ([0, 1, 2, 3, 4] if mends == "well" else [0, 1, 3, 4])
    reader = PartitionReader(config.journal_directory / "dead_letters/database_dumper-0")
    assert reader.next_seq == 1
    ((_, frame),) = reader.first_frames(0)
    assert ("row 7: it is green" in decode_header(frame).traceback) == (mends != "fails")
