"""Damaged journals: found by their checksums, mended around the damage, and nothing is thrown away."""

import json

import pytest

from common_journal import record_size
from mesh_runs import trapline
from trapline.common.journal import JournalError, JournalWriter, PartitionReader
from trapline.common.journal.epochs import load_epochs, save_epochs
from trapline.common.journal.layout import segment_files
from trapline.common.journal.repair import repair

FRAMES = [b"header", bytes(range(200))]
SIZE = record_size(FRAMES)
PER_SEGMENT = 4096 // SIZE


@pytest.fixture
def journal(tmp_path):
    directory = tmp_path / "trapline-data" / "journal" / "images" / "0"
    with JournalWriter(directory, segment_bytes=4096) as writer:
        for _ in range(4 * PER_SEGMENT):
            writer.append(FRAMES)
    return directory


def flip(journal, seq, offset):
    number, index = divmod(seq, PER_SEGMENT)
    path = segment_files(journal)[number][1]
    data = bytearray(path.read_bytes())
    data[index * SIZE + offset] ^= 0xFF
    path.write_bytes(data)
    return path, bytes(data)


def readable(journal):
    reader = PartitionReader(journal)
    seqs, seq = [], reader.first_seq
    while seq < reader.next_seq:
        seq = reader.readable_from(seq)
        slab = reader.slab(seq, max_bytes=1 << 20, max_records=100)
        for entry in slab.entries:
            assert [bytes(slab.data[o : o + n]) for o, n in entry.spans] == FRAMES
        seqs += [entry.seq for entry in slab.entries]
        seq += len(slab.entries)
    return seqs


@pytest.mark.parametrize("offset", [0, 4, 8, 24, 40, 64, 200, SIZE - 80])
@pytest.mark.parametrize("index", [0, 1, PER_SEGMENT - 1])
def test_all_but_the_damaged_record_can_be_read_after_a_repair(journal, index, offset):
    seq = PER_SEGMENT + index
    path, bytes_before = flip(journal, seq, offset)
    damage = list(PartitionReader(journal).verify())
    assert damage and damage[0].seq == seq and damage[0].path == path
    (mended,) = repair(journal)
    assert mended.kept.read_bytes() == bytes_before
    everything = list(range(4 * PER_SEGMENT))
    assert readable(journal) == [s for s in everything if s != seq]
    assert list(repair(journal)) == []
    with JournalWriter(journal) as writer:
        assert writer.append(FRAMES) == 4 * PER_SEGMENT


def test_several_records_of_a_segment_may_be_damaged(journal):
    seqs = [PER_SEGMENT, PER_SEGMENT + 2, PER_SEGMENT + 3]
    for seq in seqs:
        flip(journal, seq, 1)
    (mended,) = repair(journal)
    assert next((run.seq, run.end_seq) for run in mended.runs) == (PER_SEGMENT + 1, PER_SEGMENT + 2)
    assert readable(journal) == [s for s in range(4 * PER_SEGMENT) if s not in seqs]


def test_what_a_recovery_cut_off_does_not_come_back_by_a_repair(tmp_path):
    directory = tmp_path / "0"
    with JournalWriter(directory, segment_bytes=4096) as writer:
        for _ in range(6):
            writer.append(FRAMES)
    # The machine goes down, and the disk never got record 3: recovery cuts 3 to 5, whose bytes partly stay.
    epochs = load_epochs(directory)
    epochs.open, epochs.boot = True, "before"
    save_epochs(directory, epochs)
    path = segment_files(directory)[0][1]
    data = bytearray(path.read_bytes())
    data[3 * SIZE : 3 * SIZE + 64] = bytes(64)
    path.write_bytes(data)
    with JournalWriter(directory, segment_bytes=4096) as writer:
        assert (writer.next_seq, writer.epoch) == (3, 1)
        for _ in range(2):
            writer.append([b"short"])
        writer.append([bytes(8000)])
    # Both short ones are damaged later: the old record 4 behind them is whole, and void.
    data = bytearray(path.read_bytes())
    small = record_size([b"short"])
    for seq in (0, 1):
        data[3 * SIZE + seq * small + 40] ^= 0xFF
    path.write_bytes(data)
    assert bytes(data[4 * SIZE :]).find(FRAMES[1]) > 0, "else there is nothing to come back"
    (mended,) = repair(directory)
    assert [(run.seq, run.end_seq) for run in mended.runs] == [(0, 3)]
    reader = PartitionReader(directory)
    assert (reader.readable_from(3), reader.next_seq) == (5, 6)


def test_an_intact_journal_is_left_alone_and_one_in_use_is_refused(journal):
    before = {path: path.read_bytes() for _, path in segment_files(journal)}
    assert list(repair(journal)) == []
    assert {path: path.read_bytes() for _, path in segment_files(journal)} == before
    with JournalWriter(journal), pytest.raises(JournalError, match="has a writer already"):
        list(repair(journal))


def test_the_commands_tell_and_mend(journal, tmp_path):
    shown = trapline("journal", "info", "--json", cwd=tmp_path)
    row = json.loads(shown.stdout)
    assert (row["partition"], row["first_seq"], row["next_seq"]) == ("images/0", 0, 4 * PER_SEGMENT)
    assert row["segments"] == 4 and row["aside"] == []
    assert "are intact" in trapline("journal", "verify", cwd=tmp_path).stdout
    flip(journal, PER_SEGMENT + 1, 200)
    found = trapline("journal", "verify", "images", cwd=tmp_path)
    assert found.returncode == 1
    assert f"images/0: records {PER_SEGMENT + 1} to {PER_SEGMENT + 1} are damaged" in found.stdout
    assert "trapline journal repair" in found.stderr
    assert "the damaged file is kept" in trapline("journal", "repair", "images/0", cwd=tmp_path).stdout
    assert "damaged-" in trapline("journal", "info", cwd=tmp_path).stdout
    left = trapline("journal", "verify", "--json", cwd=tmp_path)
    assert [json.loads(line)["seq"] for line in left.stdout.splitlines()] == [PER_SEGMENT + 1]


def test_the_commands_name_what_there_is(journal, tmp_path):
    unknown = trapline("journal", "info", "imagse", cwd=tmp_path)
    assert unknown.returncode == 1 and "there are images/0" in unknown.stderr
    nothing = trapline("journal", "verify", cwd=tmp_path / "trapline-data")
    assert nothing.returncode == 1 and "there are no journals" in nothing.stderr
