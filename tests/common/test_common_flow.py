"""How data flow, from answers of a relay: rates, lags in records and seconds, what was lost."""

import io

import msgspec
import pytest
from rich.console import Console

from common_relay import Bench, item
from trapline.common.commands.flow import ChannelFlow, by_channel, flow, lags
from trapline.common.commands.top import picture

S = 1_000_000


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def partition(channel, name="0", first=0, end=0, data=0, held=1000):
    return {
        "channel": channel, "partition": name, "first_seq": first, "next_seq": end, "bytes": held, "data_bytes": data,
    }  # fmt: skip


def test_the_relay_says_how_old_the_first_record_is_that_a_reader_has_not_done(bench):
    bench.append("images/0", *[b"x"] * 5)
    bench.later()
    bench.lease(max_records=2)
    bench.ask(op="ack", group="g", items=[item(0)])
    bench.ask(op="position", reader="me-0", reads=[{"channel": "images", "partition": "0", "seq": 5, "safe": 5}])
    info = bench.ask(op="info").values
    t_us = bench.core.catalogue.get("images", "0").time_of(1)
    assert info["groups"][0]["oldest_us"] == t_us and "oldest_us" not in info["readers"][0]
    found = {lag.reader: lag for lag in lags(info, t_us + 3 * S)}
    assert (found["g"].records, found["g"].seconds, found["g"].leased) == (4, 3.0, 1)
    assert (found["me-0"].records, found["me-0"].seconds) == (0, 0.0)


def test_what_was_given_out_again_is_counted(bench):
    bench.append("images/0", 1)
    bench.later()
    for _ in range(2):
        bench.lease()
        bench.ask(op="nack", group="g", items=[item(0)], failed=True)
    bench.lease()
    assert bench.ask(op="info").values["groups"][0]["redelivered"] == 2


def test_a_reader_of_what_retention_dropped_is_as_old_as_what_is_left(bench):
    for _ in range(9):
        bench.append("images/0", bytes(3000), segment_bytes=8192)
    bench.later()
    bench.ask(op="position", reader="me-0", reads=[{"channel": "images", "partition": "0", "seq": 0, "safe": 0}])
    reader = bench.core.catalogue.get("images", "0")
    reader.drop_before(4)
    assert reader.first_seq > 0
    (row,) = bench.ask(op="info").values["readers"]
    assert row["oldest_us"] == reader.time_of(reader.first_seq)


def test_lags_of_a_channel_are_added_and_the_oldest_counts():
    info = {
        "partitions": [partition("sources", "0", end=10), partition("sources", "1", end=4)],
        "groups": [],
        "readers": [
            {"reader": "associator-0", "channel": "sources", "partition": "0", "seq": 7, "oldest_us": 2 * S},
            {"reader": "associator-0", "channel": "sources", "partition": "1", "seq": 3, "oldest_us": 5 * S},
        ],
    }
    (lag,) = by_channel(lags(info, 10 * S))
    assert (lag.records, lag.seconds, lag.partition) == (4, 8.0, "*")


def test_rates_are_what_was_appended_since_and_retention_takes_nothing_from_them():
    none = {"groups": [], "readers": []}
    before = {**none, "partitions": [partition("images", end=10, data=5000), partition("images", "1", end=3, data=900)]}
    after = {
        **none,
        "partitions": [partition("images", first=12, end=30, data=4000), partition("images", "1", end=5, data=1500)],
        "counters": {"records_dropped_unread": 2, "records_damaged": 1, "leases_expired": 4},
        "disk_free_bytes": 7, "disk_bytes": 9, "host": "north",
    }  # fmt: skip
    seen = flow(after, 4 * S, (before, 2 * S))
    assert seen.channels == [ChannelFlow("images", 2, 23, 2000, 11.0, 300.0)]
    assert (seen.hosts[0].gaps, seen.hosts[0].leases_expired, seen.hosts[0].disk_free_bytes) == (3, 4, 7)
    assert flow(after, 4 * S).channels[0].records_per_s is None


def test_the_picture_shows_it():
    info = {
        "partitions": [partition("images", end=10), partition("dead_letters", end=2)],
        "groups": [{"group": "x", "channel": "images", "partition": "0", "floor": 4, "oldest_us": 0, "leased": 1}],
        "readers": [],
        "relays": [
            {"address": "ipc://a", "trouble": None, "host": "south", "disk_free_bytes": 5e9, "disk_bytes": 8e9},
            {"address": "tcp://north:7400", "trouble": "no answer from the relay"},
        ],
    }
    console = Console(file=io.StringIO(), width=120)
    seen = flow(info, 60 * S)
    console.print(picture(seen))
    text = console.file.getvalue()
    for words in ("dead letters 2", "60.0", "5.0 of 8.0 GB of disk left", "tcp://north:7400: no answer from the relay"):
        assert words in text
    assert msgspec.json.decode(msgspec.json.encode(seen))["dead_letters"] == 2
