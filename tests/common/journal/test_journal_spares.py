"""Segment files that are written over: faster, and nobody ever reads what was there before."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from common_journal import contents, record_size
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.epochs import load_epochs, save_epochs
from trapline.common.journal.layout import segment_files
from trapline.common.journal.spares import MOST_SPARES, drop_spares, give_up, map_segment, take_spare

SEGMENT = 4096
OLD = [b"old", b"o" * 800]


def fill(writer, count):
    """Append old records, four to a segment, and return the seq behind them."""
    for _ in range(count):
        writer.append(OLD)
    return writer.next_seq


def inodes(directory):
    return {path.stat().st_ino for _, path in segment_files(directory)}


@pytest.fixture
def writer(tmp_path):
    with JournalWriter(tmp_path / "0", segment_bytes=SEGMENT) as writer:
        yield writer


def recycled(writer):
    """Return a reader of a journal whose writer begins the next segment in a file with old records."""
    fill(writer, 12)
    reader = PartitionReader(writer.directory)
    assert reader.drop_before(8, keep_spares=True) == MOST_SPARES * SEGMENT
    return reader


def test_the_writer_goes_on_in_files_that_were_given_up(writer):
    reader = recycled(writer)
    spares = {path.stat().st_ino for path in writer.directory.glob("spare-*")}
    assert len(spares) == MOST_SPARES
    writer.append([b"new"])
    assert len(spares & inodes(writer.directory)) == 1
    assert reader.refresh()
    assert contents(reader)[-1] == (12, [b"new"])


@pytest.mark.parametrize("length", [*range(0, 1000, 61), 3900])
def test_at_no_moment_does_a_reader_see_what_was_there_before(writer, length):
    reader = recycled(writer)
    for seq in range(12, 30):
        writer.append([bytes([seq]) * length])
        assert PartitionReader(writer.directory).next_seq == seq + 1
        assert reader.refresh()
        assert (reader.next_seq, contents(reader, seq)) == (seq + 1, [(seq, [bytes([seq]) * length])])
    assert list(reader.verify()) == []


def test_a_file_that_somebody_reads_stays_what_it_is(writer):
    fill(writer, 12)
    slow, relay = PartitionReader(writer.directory), PartitionReader(writer.directory)
    held = slow.slab(0, max_bytes=SEGMENT, max_records=4)
    before = bytes(held.data)
    relay.drop_before(8, keep_spares=True)
    fill(writer, 100)
    assert bytes(held.data) == before
    assert not list(writer.directory.glob("spare-*"))


def test_what_is_on_its_way_to_a_reader_stays_too(writer):
    fill(writer, 12)
    relay = PartitionReader(writer.directory)
    sent = relay.slab(0, max_bytes=SEGMENT, max_records=4).data
    before = bytes(sent)
    relay.drop_before(8, keep_spares=True)
    assert len(list(writer.directory.glob("spare-*"))) == 1, "the second segment only"
    fill(writer, 20)
    assert bytes(sent) == before


def test_a_reader_that_comes_in_between_is_told_that_the_file_has_gone(writer):
    fill(writer, 8)
    path = segment_files(writer.directory)[0][1]
    with path.open("rb") as opened:
        give_up(path, keep=True)
        descriptor = take_spare(writer.directory, SEGMENT, "00000000000000000099.log")
        assert descriptor is not None
        with pytest.raises(FileNotFoundError):
            map_segment(path)
        assert os.fstat(opened.fileno()).st_ino == os.fstat(descriptor).st_ino
        os.close(descriptor)
    assert PartitionReader(writer.directory).next_seq == 99, "old records are none of the new segment"


def test_one_killed_in_the_middle_of_a_record_goes_on_behind_the_last_whole_one(writer, tmp_path):
    recycled(writer)
    writer.append([b"new"])
    copy = shutil.copytree(writer.directory, tmp_path / "killed")
    newest = segment_files(copy)[-1][1]
    with newest.open("r+b") as file:
        file.seek(record_size([b"new"]) + 4)
        file.write(b"\x22" * 700)
    with JournalWriter(copy, segment_bytes=SEGMENT) as again:
        assert (again.next_seq, again.torn) == (13, None)
        again.append(OLD)
        assert contents(PartitionReader(copy), 12) == [(12, [b"new"]), (13, OLD)]


def lose_power(directory, tmp_path, at, data):
    """Return a journal as a machine finds it that went down: `data` stands at a place of its newest segment."""
    copy = shutil.copytree(directory, tmp_path / f"lost-{at}")
    epochs = load_epochs(copy)
    epochs.boot = "before"
    save_epochs(copy, epochs)
    with segment_files(copy)[-1][1].open("r+b") as file:
        file.seek(at)
        file.write(data)
    return copy


def test_what_a_recovery_cut_off_does_not_come_back_when_the_end_behind_the_next_record_is_lost(tmp_path):
    with JournalWriter(tmp_path / "0", segment_bytes=SEGMENT) as writer:
        fill(writer, 4)
        size = record_size(OLD)
        old = segment_files(writer.directory)[-1][1].read_bytes()
        torn = lose_power(writer.directory, tmp_path, size, bytes(64))
    with JournalWriter(torn, segment_bytes=SEGMENT) as again:
        assert again.next_seq == 1
        again.append([b"new", b"n" * 800])
        # Of the same size; the page with the end behind it was not written when the power went for the second time.
        twice = lose_power(torn, tmp_path, 2 * size, old[2 * size : 2 * size + 64])
    assert PartitionReader(twice).next_seq == 2
    with JournalWriter(twice, segment_bytes=SEGMENT) as last:
        assert last.next_seq == 2
    assert [frames[0] for _, frames in contents(PartitionReader(twice))] == [b"old", b"new"]


def test_a_power_cut_that_brings_a_spares_old_name_back_takes_nothing_that_was_synced(writer, tmp_path):
    recycled(writer)
    writer.sync()
    spare = next(writer.directory.glob("spare-*"))
    copy = shutil.copytree(writer.directory, tmp_path / "back")
    (copy / spare.name).rename(copy / "00000000000000000000.log")
    assert PartitionReader(copy).next_seq == 12
    with JournalWriter(copy, segment_bytes=SEGMENT) as again:
        assert (again.next_seq, again.torn) == (12, None)


def test_what_a_writer_is_taking_is_not_dropped_under_it(writer):
    recycled(writer)
    spare = next(writer.directory.glob("spare-*"))
    with spare.open("rb") as taking:
        fcntl.flock(taking, fcntl.LOCK_EX)
        assert drop_spares(writer.directory) == SEGMENT, "the other one"
    assert spare.exists()
    writer.append([b"new"])
    assert PartitionReader(writer.directory).next_seq == 13


def test_a_directory_that_cannot_be_synced_stops_the_writer_until_it_can(writer, monkeypatch):
    recycled(writer)

    def fails(_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("trapline.common.journal.writer.sync_directory", fails)
        held = set()
        for _ in range(3):
            with pytest.raises(OSError, match="input/output"):
                writer.append(OLD)
            held.add(len(list(Path("/proc/self/fd").iterdir())))
    assert len(held) == 1, "each attempt goes on with the same file"
    assert writer.append([b"new"]) == 12
    assert contents(PartitionReader(writer.directory), 12) == [(12, [b"new"])]


def test_only_files_of_the_right_size_are_used_and_a_full_disk_gets_them_back(writer):
    recycled(writer)
    writer.append([bytes(3 * SEGMENT)])
    assert not list(writer.directory.glob("spare-*")), "else they would stand in the way of others for ever"
    fill(writer, 12)
    PartitionReader(writer.directory).drop_before(20, keep_spares=True)
    sizes = [path.stat().st_size for path in writer.directory.glob("spare-*")]
    assert len(sizes) == MOST_SPARES and drop_spares(writer.directory) == sum(sizes)
    assert drop_spares(writer.directory) == 0
    fill(writer, 12)
    assert PartitionReader(writer.directory).next_seq == 37


def test_more_than_a_few_are_not_kept(writer):
    fill(writer, 40)
    PartitionReader(writer.directory).drop_before(36, keep_spares=True)
    assert len(list(writer.directory.glob("spare-*"))) == MOST_SPARES
