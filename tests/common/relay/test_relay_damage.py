"""Journals that are damaged, removed or unreadable under a running relay: readers are told, nobody else notices."""

from __future__ import annotations

import shutil

import pytest

from common_journal import record_size
from common_relay import Bench, cursor
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.layout import HEADER_BYTES, segment_files


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def fill(directory, count=12):
    """Write records of which each segment holds three."""
    with JournalWriter(directory, segment_bytes=4096) as writer:
        for i in range(count):
            writer.append([b"head %d" % i, bytes(900)])


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


def read_all(bench):
    """Return seqs and losses of a reader that begins at 0."""
    seq, seqs, lost = 0, [], []
    for _ in range(20):
        answer = bench.ask(op="fetch", cursors=[cursor(seq)])
        slabs = answer.values["slabs"]
        if not slabs:
            break
        seqs += answer.seqs
        lost += [slab[name] for slab in slabs for name in ("gap", "damaged") if name in slab]
        seq = slabs[0]["next_seq"]
    return seqs, lost


@pytest.mark.parametrize("record", [0, 1, 2])
def test_damage_in_a_sealed_segment_is_a_gap_and_the_rest_is_read(bench, record):
    directory = bench.root / "journal" / "images" / "0"
    fill(directory)
    files = segment_files(directory)
    flip(files[1][1], record * record_size([b"head 0", bytes(900)]) + 1)
    bench.restart()
    seqs, lost = read_all(bench)
    first, behind = files[1][0] + record, files[2][0]
    assert lost == [[first, behind]]
    assert seqs == [seq for seq in range(12) if not first <= seq < behind]
    assert bench.core.counters["records_damaged"] == behind - first
    assert [(d.seq, d.end_seq) for d in PartitionReader(directory).verify()] == [(first, behind)]


def test_who_reads_his_own_journal_back_passes_over_damage(tmp_path):
    fill(tmp_path / "0")
    flip(segment_files(tmp_path / "0")[1][1], 1)
    reader = PartitionReader(tmp_path / "0")
    found = [(entry.seq, bytes(frame)) for entry, frame in reader.first_frames(1)]
    assert found == [(seq, b"head %d" % seq) for seq in (1, 2, *range(6, 12))]


def test_a_group_passes_over_damage_and_is_done(bench):
    directory = bench.root / "journal" / "images" / "0"
    fill(directory)
    flip(segment_files(directory)[1][1], 1)
    bench.restart()
    leased = []
    while answer := bench.lease(max_records=5):
        if not answer.seqs:
            break
        leased += answer.seqs
        items = [{"channel": "images", "partition": "0", "seq": seq} for seq in answer.seqs]
        assert bench.ask(op="ack", group="g", items=items).values["ok"]
    assert leased == [0, 1, 2, *range(6, 12)]
    assert bench.core.groups.share("g", "images", "0").floor == 12


def test_the_time_index_finds_its_way_around_damage(bench):
    directory = bench.root / "journal" / "images" / "0"
    fill(directory)
    flip(segment_files(directory)[1][1], 1)
    reader = PartitionReader(directory)
    assert reader.seq_at(0) == 0
    assert reader.seq_at(reader.time_of(7)) == 7
    assert reader.seq_at(reader.time_of(11) + 1) == 12


def test_a_partition_that_is_removed_is_gone_and_may_come_back(bench):
    fill(bench.root / "journal" / "images" / "0", 3)
    fill(bench.root / "journal" / "images" / "1", 3)
    bench.later()
    version = bench.core.catalogue.version
    shutil.rmtree(bench.root / "journal" / "images" / "0")
    assert bench.ask(op="fetch", cursors=[cursor(0)], wait_ms=10_000, catalogue=version) is not None
    told = bench.ask(op="fetch", cursors=[cursor(3)], wait_ms=10_000, catalogue=version)
    told = told or bench.later()
    assert told.values["catalogue"] > version
    info = bench.ask(op="info").values
    assert [p["partition"] for p in info["partitions"]] == ["1"]
    fill(bench.root / "journal" / "images" / "0", 2)
    bench.later()
    assert [p["next_seq"] for p in bench.ask(op="info").values["partitions"]] == [2, 3]


def test_strange_files_among_the_journals_harm_nothing(bench):
    root = bench.root / "journal"
    fill(root / "images" / "0", 3)
    (root / "images" / "note.txt").write_text("an operator was here")
    (root / "images" / "1").mkdir()
    (root / "images" / "1" / "00000000000000000000.log").write_bytes(b"")
    (root / "images" / "2").mkdir()
    (root / "images" / "2" / "what.log").write_bytes(b"x" * 100)
    bench.later()
    assert read_all(bench)[0] == [0, 1, 2]
    assert bench.ask(op="info").values["ok"]


def test_lengths_beyond_all_numbers_fail_one_request_and_the_relay_goes_on(bench):
    path = bench.root / "journal/images/0"
    with JournalWriter(path, segment_bytes=4096) as writer:
        writer.append([b"head", b"body"])
    with segment_files(path)[0][1].open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(b"\xff" * 16)
    bench.later()
    answer = bench.ask(op="fetch", cursors=[cursor(0)])
    assert not answer.values["ok"] and "cannot be read" in answer.values["error"]
    assert bench.core.counters["requests_failed"] == 1
    assert bench.ask(op="info").values["ok"]
