"""What came back of requests: answers, and the dead letters of requests that nobody could answer."""

from __future__ import annotations

from trapline.common.channel import Record
from trapline.schemas.header import Place

Spot = tuple[str, str, int]
"""(channel, partition, seq)"""


def spot_of(place: Place) -> Spot:
    """Return where a record stands, whatever the epoch."""
    return place.channel, place.partition, place.seq


class Replies:
    """Answers and dead letters in the order in which they came.

    A dead letter waits until all partitions of `sources` were read to their ends, twice, as `ImageOrder` says why: an
    answer may stand in one of them.
    """

    def __init__(self) -> None:
        self._ready: dict[Spot, Record] = {}
        self._unconfirmed: dict[Spot, Record] = {}
        self._seen_once: dict[Spot, Record] = {}

    def __len__(self) -> int:
        return len(self._ready) + len(self._seen_once) + len(self._unconfirmed)

    def add(self, answer: Record) -> None:
        """Take notice of an answer."""
        self._ready[spot_of(answer.place)] = answer

    def add_dead(self, letter: Record) -> None:
        """Take notice of the dead letter of a request."""
        self._unconfirmed[spot_of(letter.place)] = letter

    def confirm(self) -> None:
        """Note that all partitions were read to their ends: believe the dead letters that this happened to before."""
        self._ready |= self._seen_once
        self._seen_once, self._unconfirmed = self._unconfirmed, {}

    def take(self, spot: Spot | None = None) -> Record | None:
        """Return the next of them, or the one at a place; None when it is not here."""
        if spot is None:
            spot = next(iter(self._ready), None)
        if spot is None:
            return None
        places = (self._ready, self._seen_once, self._unconfirmed)
        return next((place.pop(spot) for place in places if spot in place), None)
