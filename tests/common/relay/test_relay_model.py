"""A journal, its relay, a group and a reader against a simple model, in any order that hypothesis can think of."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from common.relay.channel_model import LEASE_S, Model
from common_relay import Bench, cursor, item
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.common.journal.epochs import load_epochs, save_epochs
from trapline.common.journal.layout import HEADER_BYTES, segment_files
from trapline.common.relay.config import Retention
from trapline.common.relay.retention import Keeper

WORKERS = ("w1", "w2")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SEGMENT = 4096
workers = st.sampled_from(WORKERS)
fractions = st.sampled_from([0.0, 0.3, 0.6, 1.0])


class Channel(RuleBasedStateMachine):
    """The machine: each rule does one thing to the real ones and to the model, and compares."""

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY)
        self.bench = Bench(Path(self.directory.name))
        self.path = self.bench.root / "journal" / "images" / "0"
        self.model, self.count, self.clean = Model(), 0, False
        self.hands: dict[tuple[str, int], tuple[bytes, int]] = {}
        self.read: dict[int, bytes] = {}
        self.at, self.read_epoch = 0, -1
        self.writer = None
        self.open_writer()
        self.append([10, 10, 10])

    def teardown(self):
        if not hasattr(self, "bench"):
            return
        try:
            self.drain()
        finally:
            if self.writer:
                self.abandon_writer()
            self.bench.close()
            self.directory.cleanup()

    # The writer.

    @precondition(lambda self: self.writer is None)
    @rule()
    def open_writer(self):
        self.writer = JournalWriter(self.path, segment_bytes=SEGMENT)
        if not self.clean:
            epoch = self.model.epochs[-1][0] + 1 if self.model.epochs else 0
            self.model.epochs.append((epoch, self.model.next_seq))
        self.clean = False
        assert self.writer.next_seq == self.model.next_seq
        assert self.writer.epoch == self.model.epochs[-1][0]

    @precondition(lambda self: self.writer is not None)
    @rule(sizes=st.lists(st.sampled_from([0, 100, 1500]), min_size=1, max_size=6))
    def append(self, sizes):
        payloads = [b"%d " % (self.count + i) + bytes(size) for i, size in enumerate(sizes)]
        self.count += len(sizes)
        assert self.writer.append_many([[b"head", payload] for payload in payloads]) == self.model.next_seq
        self.model.append(payloads)
        self.bench.later()
        self.model.stored |= self.model.done

    @precondition(lambda self: self.writer is not None)
    @rule()
    def sync(self):
        assert self.writer.sync() == self.model.next_seq

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close_writer(self):
        self.writer.close()
        self.writer, self.clean = None, True

    @precondition(lambda self: self.writer is not None)
    @rule(body=st.binary(max_size=300))
    def kill_writer(self, body):
        """Leave a record whose header was not written yet, as `kill -9` does."""
        segment, offset = self.writer._segment, self.writer._offset
        if segment and offset + HEADER_BYTES + len(body) <= segment.size:
            os.pwrite(segment.descriptor, body, offset + HEADER_BYTES)
        self.abandon_writer()

    def abandon_writer(self):
        for segment in (self.writer._segment, self.writer._sealed):
            if segment:
                segment.close()
        os.close(self.writer._lock)
        self.writer = None

    @precondition(lambda self: self.writer is not None and self.writer._segment)
    @rule(where=fractions, how=st.sampled_from(["zeros", "flip", "header"]), byte=st.integers(0, 39))
    def cut_power(self, where, how, byte):
        """Everything dies; from some unsynced record on the disk holds something else than was written."""
        # What retention took before it was synced is gone anyhow.
        safe = max(self.writer.synced_seq, self.model.first)
        cut = safe + round(where * (self.model.next_seq - safe))
        first, path = next((f, p) for f, p in reversed(segment_files(self.path)) if f <= cut)
        segments = {segment.first_seq: segment for segment in PartitionReader(self.path)._segments}
        self.abandon_writer()
        if cut < self.model.next_seq:
            offset = segments[first].offsets[cut - first]
            data = bytearray(path.read_bytes())
            if how == "zeros":
                data[offset:] = bytes(len(data) - offset)
            elif how == "flip":
                data[offset + byte] ^= 0xFF
            else:
                data[offset : offset + 32] = bytes(32)
            path.write_bytes(data)
        # As after a boot.
        epochs = load_epochs(self.path)
        epochs.boot = "before"
        save_epochs(self.path, epochs)
        self.bench.restart()
        self.model.cut(cut)
        self.model.restart_relay(clean=True)

    # The relay.

    @rule(clean=st.booleans())
    def restart_relay(self, clean):
        if clean:
            self.bench.restart()
        else:
            self.bench.core._memory.close()
            self.bench.start()
        self.model.restart_relay(clean=clean)

    @rule()
    def advance(self):
        self.bench.later()
        self.model.stored |= self.model.done

    @rule(seconds=st.sampled_from([0.0, 0.4 * LEASE_S, 1.1 * LEASE_S]))
    def wait(self, seconds):
        self.bench.later(seconds)
        self.model.expire(self.bench.now)
        self.model.stored |= self.model.done

    @rule(hard=st.booleans(), limit=st.integers(1, 6))
    def retain(self, hard, limit):
        limits = {"hard_limit_bytes": limit * SEGMENT} if hard else {}
        core = self.bench.core
        rules = {"*": Retention(limit_bytes=1, **limits)}
        self.bench.later()
        keeper = Keeper(core.catalogue, core.groups, core.readers, rules, free_bytes=lambda: 1 << 60)
        floor = core.groups.floor("images", "0")
        freed = keeper.apply(0)
        reader = core.catalogue.get("images", "0")
        first = reader.first_seq if reader.segment_count else self.model.first
        if floor is not None and not hard:
            assert first <= max(self.model.floor, self.model.first)
        for forced in freed.forced:
            assert forced.end_seq <= first and "g" in forced.needed_by
        assert not hard or reader.segment_count <= 1 or reader.size_bytes <= limit * SEGMENT
        self.model.drop_before(first)
        self.model.stored |= self.model.done

    # The group.

    @rule(worker=workers, most=st.integers(1, 5))
    def lease(self, worker, most):
        self.model.expire(self.bench.now)
        self.bench.later()
        self.model.stored |= self.model.done
        expected = self.model.offered(most)
        answer = self.bench.lease(worker, max_records=most)
        assert answer.values["ok"], answer.values
        assert answer.seqs == expected
        for slab, (_, payload) in zip(answer.values["slabs"], answer.frames(), strict=True):
            seq, epoch = slab["records"][0][:2]
            assert payload == self.model.records[seq]
            assert slab["attempts"] == self.model.attempts.get(seq, 0)
            self.model.take(seq, worker, self.bench.now)
            self.hands[worker, seq] = (payload, epoch)

    def held_by(self, worker, where):
        seqs = sorted(seq for w, seq in self.hands if w == worker)
        return seqs[int(where * (len(seqs) - 1))] if seqs else None

    def named(self, worker, seq):
        return {**item(seq), "epoch": self.hands[worker, seq][1]}

    @rule(worker=workers, where=fractions, most=st.integers(1, 5))
    def ack(self, worker, where, most=1):
        for _ in range(most):
            if (seq := self.held_by(worker, where)) is None:
                return
            named = self.named(worker, seq)
            payload, _ = self.hands.pop((worker, seq))
            assert self.bench.ask(op="ack", group="g", items=[named]).values["ok"]
            self.model.finish(seq, payload)

    @rule(worker=workers, where=fractions, failed=st.booleans())
    def nack(self, worker, where, failed):
        seq = self.held_by(worker, where)
        if seq is not None:
            named = self.named(worker, seq)
            payload, _ = self.hands.pop((worker, seq))
            self.bench.ask(op="nack", group="g", worker=worker, items=[named], failed=failed)
            lease = self.model.leases.get(seq)
            if lease and lease.worker == worker and self.model.records.get(seq) == payload:
                self.model.give_back(seq, failed=failed)

    @rule(worker=workers, where=fractions)
    def extend(self, worker, where):
        """Extend all that a worker believes to have, and say that it handles one of them."""
        seqs = sorted(seq for w, seq in self.hands if w == worker)
        handling = self.held_by(worker, where)
        items = [self.named(worker, seq) for seq in seqs]
        told = [self.named(worker, handling)] if seqs else []
        answer = self.bench.ask(op="extend", group="g", worker=worker, items=items, handling=told)
        kept = 0
        for seq, lease in self.model.leases.items():
            if lease.worker == worker:
                same = self.model.records.get(seq) == self.hands.get((worker, seq), (None,))[0]
                lease.handling = seq == handling and same
                if same:
                    lease.deadline, kept = self.bench.now + LEASE_S, kept + 1
        assert answer.values["kept"] == kept

    @rule(worker=workers)
    def leave(self, worker):
        self.bench.ask(op="leave", group="g", worker=worker)
        self.model.release(worker, failed=False)
        self.hands = {key: what for key, what in self.hands.items() if key[0] != worker}

    # The reader.

    @rule(most=st.integers(1, 10))
    def fetch(self, most):
        """Read on as a reader would: in order, every record or a gap that names it, and told what is void."""
        self.bench.later()
        self.model.stored |= self.model.done
        answer = self.bench.ask(op="fetch", cursors=[cursor(self.at, self.read_epoch)], max_records=most)
        assert answer.values["ok"], answer.values
        if not answer.values["slabs"]:
            nobody_knows = self.writer is None and not self.clean and self.at > self.model.next_seq
            assert self.at == self.model.next_seq or not self.model.records or nobody_knows
            return
        (slab,) = answer.values["slabs"]
        void = slab.get("cut", {"seq": self.at})["seq"]
        for seq in range(void, self.at):
            assert self.read.pop(seq, None) not in self.model.records.values(), "what still stands is not void"
        expected = max(void, self.model.first)
        assert slab.get("gap") == ([void, expected] if void < self.model.first else None)
        assert "damaged" not in slab
        for (seq, epoch), (_, payload) in zip([r[:2] for r in slab["records"]], answer.frames(), strict=True):
            assert (seq, payload) == (expected, self.model.records[seq])
            self.read[seq], self.read_epoch, expected = payload, epoch, expected + 1
        if "cut" in slab and not slab["records"]:
            self.read_epoch = -1
        assert slab["next_seq"] == expected
        self.at = expected

    # What must hold at any time.

    @invariant()
    def the_journal_holds_what_the_model_holds(self):
        if not hasattr(self, "bench"):
            return
        if self.writer is None:
            return
        reader = PartitionReader(self.path)
        assert reader.next_seq == self.model.next_seq
        found = [bytes(f) for _, f in reader.first_frames(0)]
        assert len(found) == len(self.model.records)
        epochs = reader.epochs()
        assert [(e.epoch, e.first_seq) for e in epochs.epochs] == self.model.epochs

    def drain(self):
        """Read and acknowledge to the end: nothing may be missing that was neither lost nor dropped."""
        if self.writer is None:
            self.open_writer()
        self.wait(10 * LEASE_S)
        self.hands = {}
        # Also one who is at the end must hear that what he read there is void.
        self.fetch(100)
        for _ in range(len(self.model.records) + 1):
            if self.model.offered(100):
                self.lease("w1", 100)
                self.ack("w1", 0, most=100)
            if self.at != self.model.next_seq:
                self.fetch(100)
        assert self.at == self.model.next_seq
        assert set(self.model.records.values()) <= self.model.done
        assert all(self.read.get(seq) in (what, None) for seq, what in self.model.records.items())


SETTINGS = settings(
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    print_blob=False,
)


def test_the_channel_does_what_the_model_does():
    """The same examples every time: a machine that judges a change judges it alike."""
    run_state_machine_as_test(Channel, settings=settings(SETTINGS, derandomize=True, max_examples=120))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_channel_does_what_the_model_does_for_a_long_time():
    run_state_machine_as_test(Channel, settings=settings(SETTINGS, max_examples=5000))
