"""What a partition, a group and a reader of it should do, in a few lines: the reference of the model test.

A record is known by what was written in it, so that one which took the seq of a lost one is another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEASE_S = 3.0


@dataclass
class Lease:
    worker: str
    deadline: float
    handling: bool = False


@dataclass
class Model:
    """One partition, read by one group.

    Attributes
    ----------
    records
        What stands at each seq, from `first` on.
    epochs
        (epoch, first seq).
    done, stored
        Payloads that were acknowledged, and those of them that the relay has on disk.
    lost
        Payloads that a power cut took.
    dropped
        Payloads that retention took before they were done.
    """

    first: int = 0
    records: dict[int, bytes] = field(default_factory=dict)
    epochs: list[tuple[int, int]] = field(default_factory=list)
    done: set[bytes] = field(default_factory=set)
    stored: set[bytes] = field(default_factory=set)
    leases: dict[int, Lease] = field(default_factory=dict)
    retry: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    dropped: set[bytes] = field(default_factory=set)

    @property
    def next_seq(self) -> int:
        return self.first + len(self.records)

    @property
    def floor(self) -> int:
        """Return the first record that the group has not done."""
        return next((seq for seq, what in sorted(self.records.items()) if what not in self.done), self.next_seq)

    def append(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.records[self.next_seq] = payload

    def cut(self, seq: int) -> None:
        """Lose the records from a seq on: a power cut, after which the relay starts anew as well."""
        for gone in range(seq, self.next_seq):
            self.lost.add(self.records.pop(gone))

    def drop_before(self, seq: int) -> None:
        for gone in range(self.first, seq):
            payload = self.records.pop(gone)
            self.dropped |= {payload} - self.done
        self.first = max(self.first, seq)
        for state in (self.leases, self.attempts):
            for gone in [s for s in state if s < self.first]:
                del state[gone]
        self.retry = {s for s in self.retry if s >= self.first}

    def restart_relay(self, *, clean: bool) -> None:
        """Leases and attempts are forgotten; so is what was not on disk."""
        if clean:
            self.stored |= self.done
        self.done = set(self.stored)
        self.leases, self.retry, self.attempts, self.given = {}, set(), {}, set()

    def expire(self, now: float) -> None:
        for seq, lease in list(self.leases.items()):
            if lease.deadline <= now:
                self.give_back(seq, failed=lease.handling)

    def offered(self, most: int) -> list[int]:
        """Return what a worker gets: first what came back, then what nobody had yet."""
        undone = [seq for seq, what in sorted(self.records.items()) if what not in self.done and seq not in self.leases]
        came_back = [seq for seq in undone if seq in self.retry]
        return (came_back + [seq for seq in undone if seq not in self.retry])[:most]

    def take(self, seq: int, worker: str, now: float) -> None:
        self.retry.discard(seq)
        self.leases[seq] = Lease(worker, now + LEASE_S)

    def finish(self, seq: int, payload: bytes) -> None:
        """Acknowledge: it counts for the record that was leased, not for one that took its place."""
        if self.records.get(seq) == payload:
            self.done.add(payload)
            self.leases.pop(seq, None)
            self.retry.discard(seq)
            self.attempts.pop(seq, None)

    def give_back(self, seq: int, *, failed: bool) -> None:
        if self.leases.pop(seq, None):
            self.retry.add(seq)
            self.attempts[seq] = self.attempts.get(seq, 0) + failed

    def release(self, worker: str, *, failed: bool) -> None:
        for seq, lease in list(self.leases.items()):
            if lease.worker == worker:
                self.give_back(seq, failed=failed and lease.handling)
