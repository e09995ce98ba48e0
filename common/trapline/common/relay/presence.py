"""Who is there: which connection a peer came through, and for which workers it speaks."""

from __future__ import annotations

WorkerKey = tuple[str, str]
"""(group, worker)"""


class Connections:
    """The peers of a socket by the descriptors of their connections, which is how ZeroMQ names one that ended.

    A descriptor is used again once its connection has ended: take notice of all ends before that of a new peer.
    """

    def __init__(self) -> None:
        self._peer_at: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._known

    def __len__(self) -> int:
        return len(self._known)

    def came(self, peer: bytes, descriptor: int) -> None:
        """Note the connection of a peer."""
        if (former := self._peer_at.pop(descriptor, None)) is not None:
            self._known.pop(former, None)
        self._peer_at[descriptor], self._known[peer] = peer, descriptor

    def ended(self, descriptor: int) -> bytes | None:
        """Return the peer whose connection ended; None for one that never asked for anything."""
        peer = self._peer_at.pop(descriptor, None)
        if peer is not None:
            self._known.pop(peer, None)
        return peer


class Speakers:
    """Which peer speaks for a worker that has leases: a worker that connects again speaks through another."""

    def __init__(self) -> None:
        self._peer_of: dict[WorkerKey, bytes] = {}
        self._workers_of: dict[bytes, set[WorkerKey]] = {}

    def speaks(self, peer: bytes, group: str, worker: str) -> None:
        """Note that a peer got or extended leases for a worker."""
        key = (group, worker)
        if (former := self._peer_of.get(key)) == peer:
            return
        if former is not None:
            self._silence(former, key)
        self._peer_of[key] = peer
        self._workers_of.setdefault(peer, set()).add(key)

    def any_of(self, group: str) -> bool:
        """Tell whether a peer that is there speaks for a worker of a group."""
        return any(name == group for name, _ in self._peer_of)

    def left(self, group: str, worker: str) -> None:
        """Note that a worker has left."""
        key = (group, worker)
        if (peer := self._peer_of.pop(key, None)) is not None:
            self._silence(peer, key)

    def forget(self, peer: bytes) -> set[WorkerKey]:
        """Return the workers that nobody speaks for any more, as a peer has gone."""
        workers = self._workers_of.pop(peer, set())
        for key in workers:
            del self._peer_of[key]
        return workers

    def _silence(self, peer: bytes, key: WorkerKey) -> None:
        workers = self._workers_of[peer]
        workers.discard(key)
        if not workers:
            del self._workers_of[peer]
