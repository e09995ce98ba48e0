"""Clocks that jump: order, leases and what is needed do not depend on them; and a partition has one writer."""

from __future__ import annotations

import pytest

from common_relay import Bench, cursor, item
from trapline.common.journal import JournalError, JournalWriter
from trapline.common.relay.config import Retention
from trapline.common.relay.retention import Keeper
from trapline.common.runtime.daemon import open_context
from trapline.common.runtime.publishing import publish
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.examples import example_messages
from trapline.schemas.images import Images

YEAR_US = 365 * 86400 * 10**6
NOW_US = 60 * YEAR_US
IMAGE = next(m for m in example_messages() if isinstance(m.header, Images))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def jumping(bench, *jumps_us):
    """Append a record at each time, each with a segment of its own."""
    times = iter(jumps_us)
    directory = bench.root / "journal" / "images" / "0"
    with JournalWriter(directory, segment_bytes=4096, clock=lambda: NOW_US + next(times)) as writer:
        for seq in range(len(jumps_us)):
            assert writer.append([b"%d" % seq, bytes(3000)]) == seq
    bench.later()
    return bench.core.catalogue.get("images", "0")


def keeper(bench, **rule):
    core = bench.core
    return Keeper(core.catalogue, core.groups, core.readers, {"*": Retention(**rule)}, free_bytes=lambda: 1 << 60)


def test_who_asks_by_time_gets_everything_since_then_however_the_clock_jumped(bench):
    jumping(bench, 0, 1, YEAR_US, 2, 3, 4)
    for since_us, first in ((0, 0), (1, 1), (2, 2), (4, 2), (YEAR_US, 2), (YEAR_US + 1, 6)):
        found = bench.ask(op="find", channel="images", partition="0", t_us=NOW_US + since_us).values["seq"]
        assert found == first
    assert bench.ask(op="fetch", cursors=[cursor(0)], max_bytes=1 << 20).seqs == [0]
    assert [r[0] for r in bench.ask(op="fetch", cursors=[cursor(2)]).values["slabs"][0]["records"]] == [2]


@pytest.mark.parametrize("jump_us", [YEAR_US, -YEAR_US])
def test_a_jump_drops_nothing_that_is_needed(bench, jump_us):
    reader = jumping(bench, *range(6))
    bench.lease(max_records=6)
    bench.ask(op="ack", group="g", items=[item(seq) for seq in range(2)])
    keeper(bench, age_s=100.0).apply(NOW_US + jump_us)
    assert reader.first_seq == (2 if jump_us > 0 else 0)
    bench.ask(op="ack", group="g", items=[item(seq) for seq in range(2, 6)])
    assert bench.core.groups.share("g", "images", "0").floor == 6


def test_records_of_a_time_that_never_came_go_at_the_limit_of_bytes(bench):
    reader = jumping(bench, 0, YEAR_US, *range(1, 9))
    keeper(bench, age_s=100.0).apply(NOW_US + 200 * 10**6)
    assert reader.first_seq == 1, "their time has not come, and none is older"
    freed = keeper(bench, age_s=100.0, hard_limit_bytes=3 * 4096).apply(NOW_US + 200 * 10**6)
    assert (reader.first_seq, freed.forced) == (7, [])


def test_a_lease_ends_by_a_clock_that_does_not_jump(bench, monkeypatch):
    jumping(bench, 0, 1)
    bench.lease("w1")
    for jump_us in (YEAR_US, -YEAR_US):
        monkeypatch.setattr("time.time_ns", lambda jump_us=jump_us: (NOW_US + jump_us) * 1000)
        bench.later()
        assert bench.core.groups.share("g", "images", "0").leases.keys() == {0}


async def test_a_second_replica_of_one_name_is_refused_and_the_first_goes_on(tmp_path):
    config = mesh_config(tmp_path)
    with running_relay(config):
        async with open_context("image_ingest", config, "0") as first:
            await publish(first, [IMAGE])
            async with open_context("image_ingest", config, "0") as second:
                with pytest.raises(JournalError, match="give this replica another name"):
                    await publish(second, [IMAGE])
            assert [place.seq for place in await publish(first, [IMAGE])] == [1]
