"""Single records from the files of this host: what a reader of everything gets, and no file held back for it."""

import random

import pytest

from trapline.common.channel.nearby import Nearby
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.epochs import load_epochs, save_epochs
from trapline.common.journal.layout import segment_files
from trapline.common.journal.single import SingleReader
from trapline.schemas.header import Place

SEGMENT = 4096


@pytest.fixture
def writer(tmp_path):
    with JournalWriter(tmp_path / "images" / "0", segment_bytes=SEGMENT) as writer:
        yield writer


def frames_of(seq):
    return [b"header %d" % seq, bytes([seq % 251]) * (seq * 37 % 900)]


def fill(writer, count):
    for seq in range(writer.next_seq, writer.next_seq + count):
        writer.append(frames_of(seq))


def got(slab):
    row = slab.rows[0]
    return row[0], [bytes(slab.data[o : o + n]) for o, n in zip(row[3::2], row[4::2], strict=True)]


def test_each_record_is_found_while_the_writer_goes_on(writer):
    single, seed = SingleReader(writer.directory), random.Random(7)
    for _ in range(20):
        fill(writer, seed.randrange(1, 9))
        for seq in seed.sample(range(writer.next_seq), writer.next_seq):
            assert got(single.read(seq, writer.epoch)) == (seq, frames_of(seq))
    assert len(segment_files(writer.directory)) > 5
    assert single.read(writer.next_seq, writer.epoch) is None
    assert single.read(3, writer.epoch + 1) is None


def test_a_file_that_is_given_up_is_not_held_back(writer):
    fill(writer, 30)
    reader, single = PartitionReader(writer.directory), SingleReader(writer.directory)
    held = single.read(0, 0)
    second = segment_files(writer.directory)[1][0]
    assert got(single.read(second, 0))[0] == second
    third = segment_files(writer.directory)[2][0]
    assert reader.drop_before(third, keep_spares=True) == 2 * SEGMENT
    # Of the first there is a map, so that it stays what it was; of the second there is none any more.
    assert len(list(writer.directory.glob("spare-*"))) == 1
    fill(writer, 30)
    assert got(held) == (0, frames_of(0))
    assert single.read(0, 0) is None
    assert single.read(second, 0) is None
    assert got(single.read(59, 0)) == (59, frames_of(59))


def test_what_is_damaged_is_not_here(writer):
    fill(writer, 6)
    path = segment_files(writer.directory)[0][1]
    single = SingleReader(writer.directory)
    start = single.read(2, 0).rows[0]
    assert start[0] == 2
    data = bytearray(path.read_bytes())
    at = data.index(b"header 2") - 64  # the table of lengths: the first frame begins 64 bytes behind it
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(data)
    assert single.read(2, 0) is None
    assert got(single.read(3, 0)) == (3, frames_of(3))


def test_after_a_power_cut_the_writer_decides(writer):
    fill(writer, 2)
    single = SingleReader(writer.directory)
    assert single.read(0, 0) is not None
    epochs = load_epochs(writer.directory)
    epochs.boot = "before"
    save_epochs(writer.directory, epochs)
    assert single.read(0, 0) is None


def test_places_lead_to_journals_and_nowhere_else(writer, tmp_path):
    fill(writer, 1)
    nearby = Nearby(tmp_path / "images")
    assert nearby.at(Place("..", "images/0", 0, 0)) is None
    assert nearby.at(Place("0", ".", 0, 0)) is None
    nearby = Nearby(tmp_path)
    assert nearby.at(Place("images", "1", 0, 0)) is None
    record = nearby.at(Place("images", "0", 0, 0))
    assert record is not None
    assert [bytes(frame) for frame in record.frames] == frames_of(0)
    assert record.place == Place("images", "0", 0, 0)
