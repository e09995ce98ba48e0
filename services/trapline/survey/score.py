"""Truth against answers: were detections of one thing joined to one object, and were the transients announced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Kind, Link, array_to_ids
from trapline.survey.detections import Truth
from trapline.survey.history import History

Rows = npt.NDArray[Any]

UNKNOWN = -1


@dataclass
class Counts:
    """How detections were joined, of a visit or in total.

    Attributes
    ----------
    detections
        Rows that were handed to the associator.
    again
        Of these, detections of something that has an object already.
    right
        Of these, those that were joined to that object.
    joined
        Detections that were joined to an object that existed, rightly or not.
    duplicates
        Detections of something that has an object, and founded another.
    """

    detections: int = 0
    again: int = 0
    right: int = 0
    joined: int = 0
    duplicates: int = 0

    @property
    def completeness(self) -> float:
        """Part of the repeated detections that came to their object; 1 when there was none."""
        return self.right / self.again if self.again else 1.0

    @property
    def purity(self) -> float:
        """Part of what was joined to objects that belongs there; 1 when nothing was joined."""
        return self.right / self.joined if self.joined else 1.0

    def add(self, other: Counts) -> None:
        """Add the numbers of another."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass
class Score:
    """Knows what every detection really was, and which object each thing has.

    A thing is a number that its detections share; a noise detection is no thing, and joining one is wrong.
    """

    history: History
    total: Counts = field(default_factory=Counts)
    transients_detected: set[int] = field(default_factory=set)
    events: set[bytes] = field(default_factory=set)
    """ids of the objects that an event was about"""
    _object_of: dict[int, int] = field(default_factory=dict)

    def judge(self, source_ids: Rows, truth: Rows, arrays: Mapping[str, Rows], numbers: Rows) -> Counts:
        """Return how the detections of an image were joined.

        Parameters
        ----------
        source_ids, truth
            Ids (n, 16) of the detections, and what they are (`things`).
        arrays, numbers
            The rows of the `lightcurves` record, and the object of each row.
        """
        thing_of = dict(zip(array_to_ids(source_ids), truth.tolist(), strict=True))
        counts = Counts(detections=len(truth))
        blind = np.flatnonzero(arrays["kind"] == Kind.BLIND)
        sources = array_to_ids(arrays["source_id"][blind])
        for source, link, number in zip(sources, arrays["link"][blind].tolist(), numbers[blind].tolist(), strict=True):
            self._join(thing_of.get(source, UNKNOWN), link, number, counts)
        self.total.add(counts)
        return counts

    def announced(self) -> int:
        """Return how many transients an event was about."""
        objects = self.history.objects.rows
        numbers = (self.history.number_of(object_id) for object_id in self.events)
        founders = {int(objects["founder"][number]) for number in numbers if number is not None}
        return sum(_kind(thing) == Truth.TRANSIENT for thing in founders)

    def _join(self, thing: int, link: int, number: int, counts: Counts) -> None:
        objects = self.history.objects.rows
        if _kind(thing) == Truth.TRANSIENT:
            self.transients_detected.add(thing)
        known = thing != UNKNOWN and thing in self._object_of
        counts.again += known
        if link == Link.NEW:
            objects["founder"][number] = thing
            counts.duplicates += known
            if thing != UNKNOWN:
                self._object_of.setdefault(thing, number)
            return
        counts.joined += 1
        if link == Link.FORKED:
            # A child goes on for what it was founded by; the first to come has the name.
            objects["founder"][number] = thing
        counts.right += thing != UNKNOWN and objects["founder"][number] == thing


def things(found: Rows) -> npt.NDArray[np.int64]:
    """Return a number for what each detection really is: the same for all detections of one thing, -1 for noise."""
    numbers: npt.NDArray[np.int64] = found["number"] * len(Truth) + found["truth"]
    return np.where(found["truth"] == Truth.NOISE, UNKNOWN, numbers)


def _kind(thing: int) -> int:
    return Truth.NOISE if thing == UNKNOWN else thing % len(Truth)
