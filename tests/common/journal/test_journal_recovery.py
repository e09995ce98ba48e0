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
        after = segment_files(journal)[-1][1].read_bytes()[offset + record_size([b"short"]) :]
        assert not any(after), "a stale header could be taken for the next record"


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
