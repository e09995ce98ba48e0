"""Where objects are, for a search about many positions: k-d trees that are never rebuilt as a whole per image.

Objects stand in trees of shrinking size. New ones wait until the next search, which plants them in a new tree together
with the trees that are not much larger: every object is replanted a logarithmic number of times. A tree holds the
position that an object had when it was planted (its anchor). One that moved further than a tolerance is planted anew,
and a search looks further by the tolerance. Unit vectors know no RA 0 and no pole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.common.table import GrowingTable

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

_SPOT = np.dtype([("here", "f8", (3,)), ("anchor", "f8", (3,)), ("error_deg", "f8"), ("tree", "i8")])
_WAITING = -1
_GONE = -2
_NEIGHBOURS_AT_FIRST = 2
_SPARE_ENTRIES = 1024
# Searching a tree costs something however small it is.
_SMALLEST_TREE = 1024
# A search that must look further by half of its radius finds twice as many as it needs.
_LARGEST_TOLERANCE = 0.5
_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class Gate:
    """How far apart a source and an object may be: on the sky, and in units of their errors together."""

    radius_deg: float
    sigmas: float

    def chord(self, error_deg: float, other_error_deg: float) -> float:
        """Return the largest distance of unit vectors whose position errors are at most these.

        The offsets of a de Ruiter radius are never shorter than the chord: a pair beyond `sigmas` is beyond this.
        """
        return min(self._radius_chord(), math.radians(self.sigmas * math.hypot(error_deg, other_error_deg)))

    def is_decided_by_errors(self, error_deg: float, other_error_deg: float) -> bool:
        """Return whether no pair within `sigmas` is beyond the radius, with errors that are at most these."""
        return math.radians(self.sigmas * math.hypot(error_deg, other_error_deg)) < self._radius_chord()

    def _radius_chord(self) -> float:
        return 2 * math.sin(math.radians(min(self.radius_deg, 180.0)) / 2)


@dataclass(frozen=True, slots=True)
class _Tree:
    serial: int
    rows: RowNumbers
    points: Any
    error_deg: float
    """largest error of its objects"""


class SkyIndex:
    """Objects by position. Rows are numbered as in the catalogue, in the order of `insert`."""

    def __init__(self) -> None:
        self._spots = GrowingTable(_SPOT)
        self._trees: list[_Tree] = []
        self._waiting: list[RowNumbers] = []
        self._serial = 0
        self._tolerance = 2.0  # nothing is further apart on the unit sphere

    def insert(self, vectors: Float, errors_deg: Float) -> None:
        """Append objects at unit vectors, (n, 3), with position errors (the larger of both axes)."""
        rows = self._spots.extend(len(vectors))
        self._spots.rows["here"][rows] = vectors
        self._spots.rows["error_deg"][rows] = errors_deg
        self._wait(rows)

    def move(self, rows: RowNumbers, vectors: Float, errors_deg: Float) -> None:
        """Tell that objects are now at these unit vectors, (n, 3), with errors that did not grow."""
        spots = self._spots.rows
        spots["here"][rows] = vectors
        spots["error_deg"][rows] = errors_deg
        far = _squared(vectors - spots["anchor"][rows]) > self._tolerance**2
        self._wait(rows[far & (spots["tree"][rows] >= 0)])

    def remove(self, rows: RowNumbers) -> None:
        """Find these objects no more."""
        self._spots.rows["tree"][rows] = _GONE

    def near(self, vectors: Float, error_deg: float, gate: Gate) -> tuple[RowNumbers, RowNumbers]:
        """Return all pairs (number of the vector, row of the object) that pass a gate, in ascending order.

        Pairs somewhat further apart may be among them: measure the distance. `error_deg` is the largest of the vectors.
        """
        self._plant()
        if not self._trees or not len(vectors):
            return np.zeros(0, np.intp), np.zeros(0, np.intp)
        self._tighten(min(gate.chord(error_deg, tree.error_deg) for tree in self._trees))
        along = np.argsort(vectors[:, 2])
        found = [self._search(tree, vectors[along], gate.chord(error_deg, tree.error_deg)) for tree in self._trees]
        near = along[np.concatenate([i for i, _ in found])]
        rows = np.concatenate([j for _, j in found])
        order = np.argsort(near * len(self._spots) + rows, kind="stable")
        return near.take(order), rows.take(order)

    def _search(self, tree: _Tree, vectors: Float, chord: float) -> tuple[RowNumbers, RowNumbers]:
        """Return pairs of a vector and a row of a tree; the vectors ascend in z."""
        reach = (chord + self._tolerance) * (1 + 1e-9) + 1e-12
        near, place = _in_strips(tree, vectors, reach) or _in_tree(tree, vectors, reach)
        rows = tree.rows.take(place)
        alive = self._spots.rows["tree"][rows] == tree.serial
        return near[alive], rows[alive]

    def _tighten(self, chord: float) -> None:
        if self._tolerance <= _LARGEST_TOLERANCE * chord:
            return
        self._tolerance = _TOLERANCE * chord
        spots = self._spots.rows
        far = _squared(spots["here"] - spots["anchor"]) > self._tolerance**2
        self._wait(np.nonzero(far & (spots["tree"] >= 0))[0])
        self._plant()

    def _wait(self, rows: RowNumbers) -> None:
        if len(rows):
            self._spots.rows["tree"][rows] = _WAITING
            self._waiting.append(rows)

    def _plant(self) -> None:
        if not self._waiting:
            return
        spots = self._spots.rows
        crowded = sum(len(tree.rows) for tree in self._trees) > 2 * len(spots) + _SPARE_ENTRIES
        chosen, size = self._waiting, sum(map(len, self._waiting))
        while self._trees and (crowded or len(self._trees[-1].rows) <= max(2 * size, _SMALLEST_TREE)):
            tree = self._trees.pop()
            chosen.append(tree.rows[spots["tree"][tree.rows] == tree.serial])
            size += len(chosen[-1])
        rows = np.sort(np.concatenate(chosen))
        rows = rows[spots["tree"][rows] != _GONE]
        self._waiting, self._serial = [], self._serial + 1
        if not len(rows):
            return
        spots["anchor"][rows] = spots["here"][rows]
        spots["tree"][rows] = self._serial
        # Planting is what costs: unbalanced trees grow in half the time and are searched nearly as fast.
        points = cKDTree(spots["anchor"][rows], balanced_tree=False, compact_nodes=False)
        self._trees.append(_Tree(self._serial, rows, points, float(spots["error_deg"][rows].max())))


def _in_tree(tree: _Tree, vectors: Float, reach: float) -> tuple[RowNumbers, RowNumbers]:
    """Return pairs of a vector and a place in a tree that are at most so far apart."""
    open_, pairs = np.arange(len(vectors)), []
    neighbours = _NEIGHBOURS_AT_FIRST
    while len(open_):
        distance, place = tree.points.query(vectors[open_], k=neighbours, distance_upper_bound=reach)
        full = np.isfinite(distance[:, -1]) & (neighbours < len(tree.rows))
        found = np.flatnonzero(np.isfinite(distance) & ~full[:, None])
        pairs.append((open_.take(found // neighbours), place.ravel().take(found)))
        open_, neighbours = open_[full], 4 * neighbours
    return np.concatenate([i for i, _ in pairs]), np.concatenate([j for _, j in pairs])


def _in_strips(tree: _Tree, vectors: Float, reach: float) -> tuple[RowNumbers, RowNumbers] | None:
    """Return what `_in_tree` does, by strips of equal z about the few objects of a small tree; None when it is large.

    What waits for a larger tree is a handful of objects for thousands of vectors, each of which would be a search.
    """
    if len(tree.rows) > _SMALLEST_TREE:
        return None
    points = tree.points.data
    first = np.searchsorted(vectors[:, 2], points[:, 2] - reach)
    count = np.searchsorted(vectors[:, 2], points[:, 2] + reach, side="right") - first
    if count.sum() > len(vectors):
        return None
    place = np.repeat(np.arange(len(points)), count)
    near = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    close = _squared(vectors[near] - points[place]) <= reach * reach
    return near[close], place[close]


def _squared(vectors: Float) -> Float:
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors))
