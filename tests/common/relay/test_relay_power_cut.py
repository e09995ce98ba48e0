"""What a power cut takes, nobody is made to believe: neither readers nor groups, whoever starts first afterwards."""

from __future__ import annotations

import sqlite3

import pytest

from common_relay import Bench, cursor, item
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.epochs import Epoch, Epochs, load_epochs, save_epochs
from trapline.common.journal.layout import segment_files


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def cut_power(bench, keep, damage=b"\x11", *, boot="before"):
    """End everything, with records from `keep` on damaged on disk, and start the relay alone."""
    directory = bench.root / "journal" / "images" / "0"
    bench.writers.pop("images/0").close()
    epochs = load_epochs(directory)
    epochs.open, epochs.boot = True, boot
    save_epochs(directory, epochs)
    reader = PartitionReader(directory)
    _, path = segment_files(directory)[-1]
    with path.open("r+b") as file:
        file.seek(reader._segments[-1].offsets[keep] + 70)
        file.write(damage)
    bench.restart()


def reopen(bench, *payloads):
    bench.append("images/0", *payloads)
    bench.later()


def test_a_torn_record_is_not_served_before_its_writer_has_cut_it(bench):
    bench.append("images/0", *[100] * 5)
    bench.later()
    cut_power(bench, keep=3)
    assert bench.ask(op="fetch", cursors=[cursor(0)]).seqs == [0, 1, 2]
    assert bench.lease(max_records=9).seqs == [0, 1, 2]
    reopen(bench, 7, 2000)
    answer = bench.ask(op="fetch", cursors=[cursor(3)])
    assert answer.seqs == [3, 4]
    assert [len(frames[1]) for frames in answer.frames()] == [7, 2000]


def test_a_reader_ahead_of_a_power_cut_waits_for_the_writer_and_is_told_what_is_void(bench):
    bench.append("images/0", *[100] * 5)
    bench.later()
    assert bench.ask(op="fetch", cursors=[cursor(0)]).seqs == [0, 1, 2, 3, 4]
    cut_power(bench, keep=3)
    assert bench.ask(op="fetch", cursors=[cursor(5, epoch=0)]).values["slabs"] == []
    reopen(bench)
    slab = bench.ask(op="fetch", cursors=[cursor(5, epoch=0)]).values["slabs"][0]
    assert (slab["cut"], slab["next_seq"]) == ({"epoch": 0, "seq": 3}, 3)


def test_a_group_gets_the_records_that_took_the_place_of_lost_ones(bench):
    bench.append("images/0", *[100] * 5)
    bench.later()
    bench.lease(max_records=9)
    bench.ask(op="ack", group="g", items=[item(seq) for seq in range(5)])
    bench.later()
    cut_power(bench, keep=3)
    reopen(bench, 1, 2, 3)
    assert bench.lease(max_records=9).seqs == [3, 4, 5]
    old = [{**item(3), "epoch": 0}]
    assert bench.ask(op="extend", group="g", worker="w1", items=old).values["kept"] == 0
    bench.ask(op="ack", group="g", items=old)
    assert bench.core.groups.share("g", "images", "0").floor == 3
    bench.ask(op="ack", group="g", items=[{**item(3), "epoch": 1}])
    assert bench.core.groups.share("g", "images", "0").floor == 4


def test_a_group_of_a_removed_journal_begins_with_the_new_one(bench):
    bench.append("images/0", *[100] * 5)
    bench.later()
    bench.lease(max_records=9)
    bench.ask(op="ack", group="g", items=[item(seq) for seq in range(5)])
    bench.later()
    bench.writers.pop("images/0").close()
    for path in (bench.root / "journal" / "images" / "0").iterdir():
        path.unlink()
    bench.restart()
    reopen(bench, 1, 2)
    assert bench.lease(max_records=9).seqs == [0, 1]


def test_an_epoch_ends_where_the_deepest_later_cut_was():
    epochs = Epochs([Epoch(0, 0), Epoch(1, 10), Epoch(2, 8)])
    assert [epochs.end_of(epoch) for epoch in (0, 1, 2)] == [8, 8, None]


def test_a_record_that_retention_took_from_its_worker_is_not_offered_again(bench):
    for _ in range(6):
        bench.append("images/0", 3000, segment_bytes=4096)
    bench.later()
    assert bench.lease("gone", max_records=2).seqs == [0, 1]
    bench.core.catalogue.get("images", "0").drop_before(3)
    assert bench.lease("here").seqs == [3]
    bench.later(4.0)
    assert bench.lease("here", max_records=9).seqs == [3, 4, 5]


def test_an_empty_segment_that_makes_way_for_a_larger_one_is_read(bench):
    directory = bench.root / "journal" / "images" / "0"
    with JournalWriter(directory, segment_bytes=4096) as writer:
        for _ in range(3):
            writer.append([bytes(1500)])
    newest = segment_files(directory)[-1][1]
    newest.write_bytes(bytes(4096))
    bench.later()
    assert bench.ask(op="fetch", cursors=[cursor(0)]).seqs == [0, 1]
    with JournalWriter(directory, segment_bytes=4096) as writer:
        assert writer.append([bytes(9000)]) == 2
        writer.append([bytes(9000)])
        bench.later()
        answer = bench.ask(op="fetch", cursors=[cursor(2)])
        assert answer.seqs == [2] and "damaged" not in answer.values["slabs"][0]
        assert bench.ask(op="fetch", cursors=[cursor(3)]).seqs == [3]


def test_the_memory_of_an_older_relay_is_taken_over(bench):
    bench.core.close()
    (bench.root / "relay.sqlite").unlink()
    with sqlite3.connect(bench.root / "relay.sqlite") as con:
        con.execute("create table share (grp, channel, partition, floor, done, primary key (grp, channel, partition))")
        con.execute("insert into share values ('g', 'images', '0', 2, x'90')")
    con.close()
    bench.start()
    bench.append("images/0", 1, 1, 1)
    bench.later()
    assert bench.lease(max_records=9).seqs == [2]
