"""Journals and groups against a model: whatever workers do and whoever dies, nothing is lost, shared or done twice."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common_relay import Bench, item

LEASE_S = 3.0
PARTITIONS = ("0", "1")
WORKERS = ("a", "b", "c")


@dataclass
class Leased:
    worker: str
    deadline: float
    handling: bool = False


@dataclass
class Model:
    """What a group must be like: the records of a partition, those done, those leased, and their attempts."""

    length: int = 0
    done: set[int] = field(default_factory=set)
    saved: set[int] = field(default_factory=set)
    leases: dict[int, Leased] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)

    def free(self):
        return set(range(self.length)) - self.done - self.leases.keys()

    def fail(self, seq):
        self.attempts[seq] = self.attempts.get(seq, 0) + 1

    def expire(self, now):
        for seq in [seq for seq, lease in self.leases.items() if lease.deadline <= now]:
            if self.leases.pop(seq).handling:
                self.fail(seq)


class GroupMachine(RuleBasedStateMachine):
    """A relay on real journals, beside the model."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self.directory.name))
        self.model = {name: Model() for name in PARTITIONS}

    def teardown(self):
        # When everyone is gone, what is not done is there for whoever comes: all of it, and nothing else.
        self.let_time_pass(2 * LEASE_S)
        expected = {(name, seq) for name, m in self.model.items() for seq in m.free()}
        found = self.leased_by("last", 1000) if expected else {}
        assert found.keys() == expected
        self.bench.close()
        self.directory.cleanup()

    def held(self, worker):
        return [(name, seq) for name, m in self.model.items() for seq, at in m.leases.items() if at.worker == worker]

    def all_held(self):
        return [pair for worker in WORKERS for pair in self.held(worker)]

    def leased_by(self, worker, count):
        """Lease, and return the attempts of each record that came."""
        answer = self.bench.lease(worker, max_records=count)
        if answer is None:
            return {}
        return {
            (slab["partition"], record[0]): slab["attempts"]
            for slab in answer.values["slabs"]
            for record in slab["records"]
        }

    @rule(name=st.sampled_from(PARTITIONS), count=st.integers(1, 4))
    def append(self, name, count):
        self.bench.append(f"images/{name}", *[b"x"] * count)
        self.bench.later()
        self.model[name].length += count
        self.note_saved()

    @rule(worker=st.sampled_from(WORKERS), count=st.integers(1, 5))
    def lease(self, worker, count):
        free = {(name, seq) for name, m in self.model.items() for seq in m.free()}
        found = self.leased_by(worker, count)
        assert found.keys() <= free, "a record was given out that is done, or with another worker"
        assert len(found) == min(count, len(free)), "records were held back"
        for (name, seq), attempts in found.items():
            assert attempts == self.model[name].attempts.get(seq, 0)
            self.model[name].leases[seq] = Leased(worker, self.bench.now + LEASE_S)

    @precondition(lambda self: self.all_held())
    @rule(data=st.data())
    def acknowledge(self, data):
        for name, seq in data.draw(st.lists(st.sampled_from(self.all_held()), unique=True, min_size=1, max_size=3)):
            self.bench.ask(op="ack", group="g", items=[item(seq, partition=name)])
            del self.model[name].leases[seq]
            self.model[name].done.add(seq)
            self.model[name].attempts.pop(seq, None)

    @precondition(lambda self: self.all_held())
    @rule(data=st.data(), failed=st.booleans())
    def give_back(self, data, failed):
        name, seq = data.draw(st.sampled_from(self.all_held()))
        self.bench.ask(op="nack", group="g", items=[item(seq, partition=name)], failed=failed)
        del self.model[name].leases[seq]
        if failed:
            self.model[name].fail(seq)

    @rule(data=st.data(), worker=st.sampled_from(WORKERS))
    def extend(self, data, worker):
        held = self.held(worker)
        kept = data.draw(st.lists(st.sampled_from(held), unique=True)) if held else []
        handling = data.draw(st.lists(st.sampled_from(kept), max_size=1)) if kept else []
        answer = self.bench.ask(
            op="extend", group="g", worker=worker,
            items=[item(seq, partition=name) for name, seq in kept],
            handling=[item(seq, partition=name) for name, seq in handling],
        )  # fmt: skip
        assert answer.values["kept"] == len(kept)
        for name, seq in held:
            lease = self.model[name].leases[seq]
            lease.handling = (name, seq) in handling
            if (name, seq) in kept:
                lease.deadline = self.bench.now + LEASE_S

    @rule(worker=st.sampled_from(WORKERS))
    def leave(self, worker):
        self.bench.ask(op="leave", group="g", worker=worker)
        for name, seq in self.held(worker):
            del self.model[name].leases[seq]

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    def let_time_pass(self, seconds):
        self.bench.later(seconds)
        for model in self.model.values():
            model.expire(self.bench.now)
        self.note_saved()

    @rule(what=st.sampled_from(["writers", "relay", "relay, killed"]))
    def start_again(self, what):
        if what == "writers":
            while self.bench.writers:
                self.bench.writers.popitem()[1].close()
            return
        if what == "relay":
            self.bench.restart()
            self.note_saved()
        else:
            # What was said since it last wrote is forgotten: those records come again.
            self.bench.core._memory.close()
            self.bench.start()
        for model in self.model.values():
            model.leases, model.attempts, model.done = {}, {}, set(model.saved)

    def note_saved(self):
        for model in self.model.values():
            model.saved = set(model.done)

    @invariant()
    def everything_before_the_floor_is_done_and_the_floor_is_not(self):
        for name, model in self.model.items():
            floor = self.bench.core.groups.share("g", "images", name).floor
            assert set(range(floor)) <= model.done
            assert floor not in model.done

    @invariant()
    def the_journal_has_every_record(self):
        for name, model in self.model.items():
            reader = self.bench.core.catalogue.get("images", name)
            assert (reader.next_seq if reader else 0) == model.length


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
