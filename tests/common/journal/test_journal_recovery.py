"""Damage at the end of a journal: found, cut, kept aside, told."""

import shutil

import pytest

from common_journal import record_size
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.epochs import load_epochs
from trapline.common.journal.layout import segment_files

FRAMES = [b"header", b"x" * 100]
SIZE = record_size(FRAMES)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Return a journal of three records whose writer never closed."""
    directory = tmp_path_factory.mktemp("journal") / "0"
    writer = JournalWriter(directory, segment_bytes=4096)
    for _ in range(3):
        writer.append(FRAMES)
    copy = directory.with_name("killed")
    shutil.copytree(directory, copy)
    writer.close()
    return copy


@pytest.fixture
def journal(killed, tmp_path):
    shutil.copytree(killed, tmp_path / "0")
    return tmp_path / "0"


def damage(journal, offset, data):
    _, path = segment_files(journal)[-1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("offset", range(SIZE))
def test_a_flipped_byte_anywhere_in_the_last_record_is_found(killed, tmp_path, offset):
    journal = shutil.copytree(killed, tmp_path / "0")
    at = 2 * SIZE + offset
    original = segment_files(journal)[-1][1].read_bytes()[at]
    damage(journal, at, bytes([original ^ 0xFF]))
    with JournalWriter(journal) as writer:
        padding = offset >= 48 and original == 0
        if writer.next_seq == 3:
            assert padding, "only padding may change unnoticed"
        else:
            assert writer.next_seq == 2
            kept = offset >= 4 or writer.torn is not None
            assert kept
        seq = writer.next_seq
        assert writer.append(FRAMES) == seq
    reader = PartitionReader(journal)
    assert reader.next_seq == seq + 1
    assert list(reader.verify()) == []


@pytest.mark.parametrize("length", range(0, SIZE, 16))
def test_a_torn_record_is_cut_at_any_length_and_kept_aside(killed, tmp_path, length):
    journal = shutil.copytree(killed, tmp_path / "0")
    whole = segment_files(journal)[-1][1].read_bytes()[2 * SIZE : 3 * SIZE]
    damage(journal, 2 * SIZE, whole[:length] + bytes(SIZE - length))
    with JournalWriter(journal) as writer:
        assert writer.next_seq in (2, 3)
        if writer.next_seq == 2 and length:
            assert writer.torn is not None
            assert writer.torn.read_bytes() == whole[:length].rstrip(b"\0")
        assert writer.append(FRAMES) == writer.next_seq - 1
    assert list(PartitionReader(journal).verify()) == []


def test_an_uncommitted_record_is_invisible_and_leaves_nothing_behind(journal):
    """A body without its header: the writer died between the two."""
    offset = 3 * SIZE
    damage(journal, offset + 64, b"\x11" * 500)
    with JournalWriter(journal) as writer:
        assert (writer.next_seq, writer.torn) == (3, None)
        writer.append([b"short"])
        end = offset + record_size([b"short"])
        after = segment_files(journal)[-1][1].read_bytes()[end : end + 64]
        assert after == bytes(64), "a stale header could be taken for the next record"


def test_a_stale_record_behind_the_end_is_not_read(journal):
    """A batch whose first header was never written, but whose second was."""
    whole = segment_files(journal)[-1][1].read_bytes()
    damage(journal, 4 * SIZE, whole[2 * SIZE : 3 * SIZE])
    with JournalWriter(journal) as writer:
        writer.append(FRAMES)
        assert writer.next_seq == 4
        assert PartitionReader(journal).next_seq == 4


def test_an_unclean_end_begins_an_epoch_and_a_clean_one_does_not(journal):
    for expected in (1, 1, 1):
        with JournalWriter(journal) as writer:
            assert writer.epoch == expected
            writer.append(FRAMES)
    epochs = load_epochs(journal)
    assert [(e.epoch, e.first_seq) for e in epochs.epochs] == [(0, 0), (1, 3)]
    assert (epochs.end_of(0), epochs.end_of(1)) == (3, None)


def test_a_new_segment_that_was_never_written_to_is_used(journal):
    with JournalWriter(journal, segment_bytes=4096) as writer:
        while len(segment_files(journal)) == 1:
            writer.append(FRAMES)
        end = writer.next_seq
    _, newest = segment_files(journal)[-1]
    newest.write_bytes(bytes(4096))
    with JournalWriter(journal, segment_bytes=4096) as writer:
        assert writer.next_seq == end - 1
        writer.append(FRAMES)
    assert PartitionReader(journal).next_seq == end


def written(directory, count, *, synced):
    """Return a journal of `count` records in many segments whose writer was killed, and its segment files."""
    writer = JournalWriter(directory.with_name("live"), segment_bytes=4096)
    for _ in range(count):
        writer.append(FRAMES)
        if synced:
            writer.sync()
    shutil.copytree(writer.directory, directory)
    writer.close()
    return segment_files(directory)


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def test_a_power_cut_that_tore_the_segment_before_takes_what_stands_behind_it(tmp_path):
    """Its pages were not all on the disk: what follows would be a stream with a hole."""
    files = written(tmp_path / "0", 50, synced=False)
    (before, torn_path), (last, last_path) = files[-2:]
    flip(torn_path, 2 * SIZE + 100)
    newest = last_path.read_bytes()
    with JournalWriter(tmp_path / "0", segment_bytes=4096) as writer:
        assert writer.next_seq == before + 2
        assert writer.torn is not None
        assert (tmp_path / "0" / f"torn-{last:020d}.bin").read_bytes() == newest
        for _ in range(30):
            writer.append(FRAMES)
    reader = PartitionReader(tmp_path / "0")
    assert (reader.next_seq, list(reader.verify())) == (before + 32, [])


def test_a_new_segment_that_took_the_place_of_lost_pages_is_given_up_with_them(tmp_path):
    files = written(tmp_path / "0", 50, synced=False)
    before, path = files[-2]
    path.write_bytes(path.read_bytes()[: 3 * SIZE] + bytes(4096 - 3 * SIZE))
    with JournalWriter(tmp_path / "0", segment_bytes=4096) as writer:
        assert writer.next_seq == before + 3
        assert writer.torn is not None


def test_damage_in_a_segment_that_was_synced_costs_only_the_damaged_record(tmp_path):
    """The disk did that later: what stands behind it is sound."""
    files = written(tmp_path / "0", 50, synced=True)
    before, path = files[-2]
    flip(path, 2 * SIZE + 100)
    with JournalWriter(tmp_path / "0", segment_bytes=4096) as writer:
        assert (writer.next_seq, writer.torn) == (50, None)
    assert [damage.seq for damage in PartitionReader(tmp_path / "0").verify()] == [before + 2]


def test_a_mark_that_is_old_or_gone_only_makes_recovery_look_further(tmp_path):
    for name, mark in (("none", None), ("old", "0"), ("torn", "")):
        written(tmp_path / name / "0", 50, synced=True)
        path = tmp_path / name / "0" / "synced"
        path.unlink() if mark is None else path.write_text(mark)
        with JournalWriter(tmp_path / name / "0", segment_bytes=4096) as writer:
            assert (writer.next_seq, writer.torn) == (50, None)


def test_a_segment_file_whose_length_never_reached_the_disk_is_none(tmp_path):
    files = written(tmp_path / "0", 50, synced=True)
    last, path = files[-1]
    path.write_bytes(b"")
    with JournalWriter(tmp_path / "0", segment_bytes=4096) as writer:
        assert writer.next_seq == last
        assert writer.append(FRAMES) == last
    assert PartitionReader(tmp_path / "0").next_seq == last + 1


def test_at_most_two_segments_wait_for_the_disk(tmp_path):
    with JournalWriter(tmp_path / "0", segment_bytes=4096) as writer:
        for _ in range(100):
            writer.append(FRAMES)
            starts = [first for first, _ in segment_files(tmp_path / "0")]
            assert writer.synced_seq >= (starts[-2] if len(starts) > 1 else 0)
        assert writer.synced_seq < writer.next_seq
        assert writer.sync() == 100
