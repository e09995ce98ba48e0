"""A journal: what was appended is read, in order, without holes, by everyone, whoever dies."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from common_journal import contents, record_size
from trapline.common.journal import JournalError, JournalWriter, PartitionReader, open_segment
from trapline.common.journal.layout import HEADER_BYTES, segment_files


def test_records_of_any_shape_come_back(tmp_path):
    records = [[b"one"], [], [b"", b"x" * 64, b"y" * 65], [os.urandom(5000)], [b"z"] * 300]
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        seqs = [writer.append(frames) for frames in records]
        assert seqs == [0, 1, 2, 3, 4]
        assert contents(PartitionReader(tmp_path)) == list(enumerate(records))


def test_a_reader_follows_through_many_segments_while_the_writer_goes_on(tmp_path):
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        reader = PartitionReader(tmp_path)
        assert (reader.first_seq, reader.next_seq, reader.refresh()) == (0, 0, False)
        seen = []
        for i in range(200):
            writer.append([b"%d" % i, bytes(i * 7)])
            assert reader.refresh()
            seen += contents(reader, len(seen))
        assert seen == [(i, [b"%d" % i, bytes(i * 7)]) for i in range(200)]
        assert len(segment_files(tmp_path)) > 10


def test_every_frame_lies_at_a_multiple_of_64_bytes(tmp_path):
    with JournalWriter(tmp_path) as writer:
        for i in range(50):
            writer.append([bytes(i), bytes(3 * i + 1), bytes(64)])
        slab = PartitionReader(tmp_path).slab(0, max_bytes=1 << 20, max_records=100)
        assert all(offset % 64 == 0 for entry in slab.entries for offset, _ in entry.spans)
        assert np.frombuffer(slab.data, np.uint8).ctypes.data % 64 == 0


def test_reading_copies_nothing(tmp_path):
    with JournalWriter(tmp_path) as writer:
        writer.append([b"header", bytes(1 << 16)])
        reader = PartitionReader(tmp_path)
        first = reader.slab(0, max_bytes=1, max_records=1)
        second = reader.slab(0, max_bytes=1 << 20, max_records=9)
        assert np.shares_memory(np.frombuffer(first.data, np.uint8), np.frombuffer(second.data, np.uint8))


def test_a_slab_keeps_to_its_bounds_but_has_at_least_one_record(tmp_path):
    with JournalWriter(tmp_path) as writer:
        for _ in range(20):
            writer.append([bytes(1000)])
        reader = PartitionReader(tmp_path)
        one = record_size([bytes(1000)])
        assert len(reader.slab(3, max_bytes=1, max_records=10).entries) == 1
        assert len(reader.slab(3, max_bytes=3 * one, max_records=10).entries) == 3
        assert len(reader.slab(3, max_bytes=3 * one - 1, max_records=10).entries) == 2
        assert [e.seq for e in reader.slab(17, max_bytes=1 << 20, max_records=10).entries] == [17, 18, 19]
        assert reader.slab(20, max_bytes=10, max_records=10).entries == []
        with pytest.raises(IndexError, match="holds 0 to 19, not 21"):
            reader.slab(21, max_bytes=10, max_records=10)


def test_a_batch_is_seen_whole_or_not_at_all(tmp_path):
    with JournalWriter(tmp_path) as writer:
        writer.append([b"before"])
        batch = [[b"%d" % i, bytes(i)] for i in range(1500)]
        assert writer.append_many(batch) == 1
        assert writer.append_many([]) == 1501
        assert contents(PartitionReader(tmp_path), 1) == [(i + 1, frames) for i, frames in enumerate(batch)]


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path):
    with JournalWriter(tmp_path) as writer:
        with pytest.raises(JournalError, match=r"has a writer already.*another name"):
            JournalWriter(tmp_path)
        assert writer.append([b"x"]) == 0
    with JournalWriter(tmp_path) as writer:
        assert (writer.next_seq, writer.epoch) == (1, 0)


def test_a_record_larger_than_a_segment_gets_its_own(tmp_path):
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        for size in (10, 100_000, 10):
            writer.append([bytes(size)])
        assert [len(frames[0]) for _, frames in contents(PartitionReader(tmp_path))] == [10, 100_000, 10]


def test_times_never_go_back_even_if_the_clock_does(tmp_path):
    clock = iter([100, 200, 50, 300, 20, 20])
    with JournalWriter(tmp_path, clock=lambda: next(clock)) as writer:
        for _ in range(4):
            writer.append([b"x"])
    with JournalWriter(tmp_path, clock=lambda: next(clock)) as writer:
        writer.append([b"x"])
        reader = PartitionReader(tmp_path)
        assert [reader.time_of(seq) for seq in range(5)] == [100, 200, 200, 300, 300]
        assert [reader.seq_at(t) for t in (0, 100, 101, 200, 250, 300, 301)] == [0, 0, 1, 1, 3, 3, 5]


def test_old_segments_can_be_dropped_under_a_reader(tmp_path):
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        for i in range(30):
            writer.append([b"%d" % i, bytes(900)])
        reader, other = PartitionReader(tmp_path), PartitionReader(tmp_path)
        held = other.slab(0, max_bytes=1, max_records=1)
        assert reader.drop_before(10) > 0
        assert 0 < reader.first_seq <= 10
        assert contents(reader)[0][0] == reader.first_seq
        assert bytes(held.data[held.entries[0].spans[0][0] :][:1]) == b"0"
        reader.drop_before(10**6)
        assert reader.first_seq < reader.next_seq == 30, "the newest segment stays"
        assert PartitionReader(tmp_path).first_seq == reader.first_seq
    with JournalWriter(tmp_path) as writer:
        assert writer.next_seq == 30


def test_a_segment_that_is_found_by_listing_leaves_no_hole_before_it(tmp_path):
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        writer.append([bytes(500)])
        reader = PartitionReader(tmp_path)
        for _ in range(20):
            writer.append([bytes(500)])
        assert reader.rescan()
        assert [reader.readable_from(seq) for seq in range(21)] == list(range(21))
        assert list(reader.verify()) == []


def test_a_thread_may_sync_while_segments_are_closed(tmp_path):
    done, errors = threading.Event(), []

    def sync():
        while not done.is_set():
            try:
                writer.sync()
            except OSError as error:
                errors.append(error)

    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        thread = threading.Thread(target=sync)
        thread.start()
        for _ in range(500):
            writer.append([bytes(3000)])
        done.set()
        thread.join()
        assert writer.sync() == 500
    assert errors == []


KILLED = """
import os, sys
from pathlib import Path
from trapline.common.journal import JournalWriter
writer = JournalWriter(Path(sys.argv[1]), segment_bytes=1 << 20)
print(writer.next_seq, flush=True)
while True:
    first = writer.next_seq
    writer.append_many([[b"%d" % (first + i), os.urandom(3000)] for i in range(5)])
    print(writer.next_seq, flush=True)
"""


def test_kill_nine_loses_nothing_that_was_appended(tmp_path):
    next_seq, epochs = 0, []
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert int(process.stdout.readline()) >= next_seq
            for _ in range(20):
                next_seq = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
        next_seq = int(rest[-1]) if rest else next_seq
        with JournalWriter(tmp_path, segment_bytes=1 << 20) as writer:
            epochs.append(writer.epoch)
            assert writer.next_seq >= next_seq
            next_seq = writer.append_many([[b"%d" % writer.next_seq, b"y"]]) + 1
    reader = PartitionReader(tmp_path)
    assert [(seq, int(frames[0])) for seq, frames in contents(reader)] == [(i, i) for i in range(next_seq)]
    assert list(reader.verify()) == []
    assert epochs == sorted(set(epochs)), "each unclean end has its epoch"


class Slowly:
    """A view of a file to which each byte goes alone, as a reader on another core may see it."""

    def __init__(self, view, look):
        self.view, self.look = view, look

    def __setitem__(self, at, data):
        for i, byte in enumerate(bytes(data), at.start):
            self.view[i] = byte
            self.look()

    def release(self):
        self.view.release()


@pytest.mark.parametrize("through_a_map", [True, False], ids=["map", "calls"])
def test_a_reader_that_looks_in_the_middle_of_an_append_sees_nothing_or_all_of_it(tmp_path, monkeypatch, through_a_map):
    seen, torn = set(), []

    def look():
        reader = PartitionReader(tmp_path)
        seen.add((followed.refresh(), followed.next_seq, reader.next_seq))
        torn.extend([*reader.verify(), *followed.verify()])

    def slowly(descriptor, data, offset, write=os.pwrite):
        for i in range(len(data)):
            write(descriptor, data[i : i + 1], offset + i)
            look()
        return len(data)

    if not through_a_map:
        monkeypatch.setattr(open_segment, "JOINED_BYTES", 0)
    with JournalWriter(tmp_path, segment_bytes=4096) as writer:
        writer.append([b"first"])
        followed = PartitionReader(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", lambda d, buffers, offset: slowly(d, b"".join(buffers), offset))
            patch.setattr(os, "pwrite", slowly)
            if through_a_map:
                writer._segment._view = Slowly(writer._segment._view, look)
            writer.append([])
            writer.append([b"x", b"y" * 100])
    assert {(next_seq, fresh) for _, next_seq, fresh in seen} == {(1, 1), (2, 2), (3, 3)}
    assert torn == []


@pytest.mark.parametrize("size", [65536 - 300, 65536 - 192, 65536 - 128, 65536 - 64, 65536, 65536 + 64])
def test_records_around_the_size_from_which_on_they_are_written_otherwise_follow_each_other(tmp_path, size):
    records = [[b"a"], [b"b" * size], [b"c"], [b"d" * size, b"e"], [], [b"f" * size]]
    with JournalWriter(tmp_path, segment_bytes=1 << 20) as writer:
        for frames in records:
            writer.append(frames)
            assert contents(PartitionReader(tmp_path), writer.next_seq - 1) == [(writer.next_seq - 1, frames)]
    reader = PartitionReader(tmp_path)
    assert [frames for _, frames in contents(reader)] == records
    assert list(reader.verify()) == []


def test_a_full_disk_leaves_no_torn_record_and_can_be_tried_again(tmp_path, monkeypatch):
    with JournalWriter(tmp_path, segment_bytes=8192) as writer:
        writer.append([b"a", bytes(4000)])

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            for _ in range(2):
                with pytest.raises(OSError, match="No space"):
                    writer.append([b"b", bytes(5000)])
            reader = PartitionReader(tmp_path)
            assert (reader.next_seq, len(segment_files(tmp_path))) == (1, 1)
        assert writer.append([b"b", bytes(5000)]) == 1
        assert reader.refresh()
        assert [frames[0] for _, frames in contents(reader)] == [b"a", b"b"]


def test_the_header_is_64_bytes(tmp_path):
    with JournalWriter(tmp_path) as writer:
        writer.append([b"x"])
        assert record_size([b"x"]) == HEADER_BYTES + 64 + 64
