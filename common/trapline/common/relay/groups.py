"""Groups of workers that share a channel: who has which record, and what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Key = tuple[str, str, str]
"""(group, channel, partition)"""


@dataclass(slots=True)
class LeaseState:
    """A record in a worker's hands."""

    worker: str
    deadline: float
    handling: bool = False


@dataclass(slots=True)
class Share:
    """What a group has done of one partition: everything before `floor`, and `done` above it.

    `epoch` is that of the newest record when this was last looked at: what a later epoch replaced is not done.
    """

    floor: int = 0
    epoch: int = -1
    done: set[int] = field(default_factory=set)
    next_seq: int = 0
    retry: set[int] = field(default_factory=set)
    leases: dict[int, LeaseState] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    redelivered: int = 0
    dirty: bool = False

    def candidates(self, first_seq: int, end: int) -> Iterator[int]:
        """Yield records that nobody has, oldest first; first those that came back."""
        self.skip_to(first_seq)
        # One that was asked for again, long after it was done, may be dropped by now.
        self.retry = {seq for seq in self.retry if seq >= first_seq}
        yield from sorted(self.retry)
        while self.next_seq < end:
            seq = self.next_seq
            self.next_seq += 1
            if seq not in self.done and seq not in self.leases:
                yield seq

    def skip_to(self, first_seq: int) -> int:
        """Give up what retention has dropped, and return how many records the group never did."""
        if first_seq <= self.floor:
            return 0
        lost = first_seq - self.floor - sum(1 for seq in self.done if seq < first_seq)
        self.floor, self.next_seq = first_seq, max(self.next_seq, first_seq)
        self._keep(lambda seq: seq >= first_seq)
        self._close_up()
        return lost

    def cut(self, end: int) -> None:
        """Forget what was done at and behind a record: the writer lost it, and others have these places now."""
        self.floor, self.next_seq = min(self.floor, end), min(self.next_seq, end)
        self._keep(lambda seq: seq < end)
        self.dirty = True

    def _keep(self, kept: Callable[[int], bool]) -> None:
        self.done, self.retry = set(filter(kept, self.done)), set(filter(kept, self.retry))
        self.leases = {seq: lease for seq, lease in self.leases.items() if kept(seq)}
        self.attempts = {seq: n for seq, n in self.attempts.items() if kept(seq)}

    def _close_up(self) -> None:
        """Move the floor over what is done directly above it."""
        while self.floor in self.done:
            self.done.discard(self.floor)
            self.floor += 1
        self.next_seq = max(self.next_seq, self.floor)
        self.dirty = True

    def take(self, seq: int, worker: str, deadline: float) -> int:
        """Lease a record, and return how many attempts failed before."""
        self.redelivered += seq in self.retry
        self.retry.discard(seq)
        self.leases[seq] = LeaseState(worker, deadline)
        return self.attempts.get(seq, 0)

    def finish(self, seq: int) -> None:
        """Note that a record is done, whoever had it."""
        self.leases.pop(seq, None)
        self.retry.discard(seq)
        self.attempts.pop(seq, None)
        if seq < self.floor:
            return
        self.done.add(seq)
        self._close_up()

    def holds(self, worker: str | None, seq: int) -> bool:
        """Tell whether a worker, or without one anybody, has a record."""
        lease = self.leases.get(seq)
        return lease is not None and worker in (None, lease.worker)

    def give_back(self, seq: int, *, failed: bool, again: bool = False) -> None:
        """Take a record from its worker, so that another gets it; with `again` also one that is done.

        Of one that is done only this process knows that it is to be done again: the floor stays where it is, and what
        retention may drop is the same.
        """
        if again and (seq in self.leases or not (seq < self.floor or seq in self.done)):
            return
        if not again and self.leases.pop(seq, None) is None:
            return
        if failed:
            self.attempts[seq] = self.attempts.get(seq, 0) + 1
        self.retry.add(seq)

    def expire(self, now: float) -> int:
        """Give back what was not extended in time, and return how many records that were."""
        late = [(seq, lease) for seq, lease in self.leases.items() if lease.deadline <= now]
        for seq, lease in late:
            self.give_back(seq, failed=lease.handling)
        return len(late)


class Groups:
    """All groups of a relay. Times are seconds of a monotonic clock."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._shares: dict[Key, Share] = {}
        self._forgotten: set[str] = set()

    def share(self, group: str, channel: str, partition: str) -> Share:
        """Return a group's share of a partition; a new group begins at the first record that is still there."""
        self._forgotten.discard(group)
        return self._shares.setdefault((group, channel, partition), Share())

    def restore(self, key: Key, floor: int, done: Iterable[int], epoch: int) -> None:
        """Take up what was stored of a share."""
        self._shares[key] = Share(floor=floor, epoch=epoch, done=set(done), next_seq=floor)

    def extend(self, key: Key, seq: int, worker: str, now: float) -> bool:
        """Give a worker more time for a record, and return whether it still was his."""
        lease = self._shares[key].leases.get(seq) if key in self._shares else None
        if lease is None or lease.worker != worker:
            return False
        lease.deadline = now + self.lease_s
        return True

    def note_handling(self, group: str, worker: str, handling: set[tuple[str, str, int]]) -> None:
        """Note which (channel, partition, seq) a worker has in its handler, and that it has no other there."""
        for (name, channel, partition), share in self._shares.items():
            if name == group:
                for seq, lease in share.leases.items():
                    if lease.worker == worker:
                        lease.handling = (channel, partition, seq) in handling

    def release_worker(self, group: str, worker: str, *, failed: bool) -> list[str]:
        """Give back all that a worker of a group had, and return the channel of each record.

        With `failed`, what it was handling counts as an attempt: it died of it, as far as anyone can tell.
        """
        channels = []
        for (name, channel, _), share in self._shares.items():
            for seq, lease in list(share.leases.items()):
                if name == group and lease.worker == worker:
                    share.give_back(seq, failed=failed and lease.handling)
                    channels.append(channel)
        return channels

    def expire(self, now: float) -> list[str]:
        """Give back all leases that are past their deadline, and return the channel of each record."""
        return [channel for (_, channel, _), share in self._shares.items() for _ in range(share.expire(now))]

    def postpone(self, seconds: float) -> None:
        """Give all leases more time."""
        for share in self._shares.values():
            for lease in share.leases.values():
                lease.deadline += seconds

    def next_deadline(self) -> float | None:
        """Return when the next lease ends; None without leases."""
        return min((lease.deadline for s in self._shares.values() for lease in s.leases.values()), default=None)

    def floor(self, channel: str, partition: str) -> int | None:
        """Return the lowest record that some group has not done; None when no group reads the partition."""
        return min((s.floor for k, s in self._shares.items() if k[1:] == (channel, partition)), default=None)

    def behind(self, channel: str, partition: str, seq: int) -> list[str]:
        """Return the groups that have not done everything before a record."""
        return sorted(k[0] for k, s in self._shares.items() if k[1:] == (channel, partition) and s.floor < seq)

    def is_leasing(self, group: str) -> bool:
        """Tell whether a worker of a group has a record."""
        return any(share.leases for (name, _, _), share in self._shares.items() if name == group)

    def forget(self, group: str) -> list[tuple[str, str]]:
        """Forget a group, and return (channel, partition) of what it had a share of."""
        keys = sorted(key for key in self._shares if key[0] == group)
        for key in keys:
            del self._shares[key]
        self._forgotten.add(group)
        return [(channel, partition) for _, channel, partition in keys]

    def is_forgotten(self, group: str) -> bool:
        """Tell whether a group was forgotten, and nobody leased for it since."""
        return group in self._forgotten

    def take_dirty(self) -> Iterator[tuple[Key, Share]]:
        """Yield the shares that changed since they were last yielded."""
        for key, share in self._shares.items():
            if share.dirty:
                share.dirty = False
                yield key, share

    def __iter__(self) -> Iterator[tuple[Key, Share]]:
        return iter(sorted(self._shares.items(), key=lambda item: item[0]))
