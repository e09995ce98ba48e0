"""Which objects an image covers: watch positions by HEALPix cell, and what each footprint was found to cover.

Positions stand in runs that are sorted by cell, of shrinking size: new ones are merged into the runs that are not much
larger, so that each is sorted a logarithmic number of times. What a footprint covers is remembered, and only positions
that changed since are looked at again: a fixed field costs nothing per image.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.associator.footprint import Cells, Footprint, cells_at, cells_near, covered_at
from trapline.common.table import GrowingTable

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]

_SPOT = np.dtype([("ra_deg", "f8"), ("dec_deg", "f8"), ("cell", "i8")])
_ORDER = 10
_NOWHERE = -1
_VIEWS = 64
_LONGEST_LOG = 4096
_SMALLEST_RUN = 1024
# Beyond this a cone is so much of the sky that all is looked at.
_LARGEST_CONE_DEG = 60.0
_CELLS_ACROSS = 8


@dataclass(slots=True)
class _View:
    """What a footprint covers: rows in ascending order, and how much of the log that knows."""

    rows: RowNumbers
    read: int


class Whereabouts:
    """Watch positions of objects; rows as in the catalogue."""

    def __init__(self) -> None:
        self._spots = GrowingTable(_SPOT)
        self._runs: list[tuple[Cells, RowNumbers]] = []
        self._waiting: list[RowNumbers] = []
        self._log: list[RowNumbers] = []
        self._views: OrderedDict[tuple[Footprint, int], _View] = OrderedDict()

    def put(self, rows: RowNumbers, ra_deg: Float, dec_deg: Float) -> None:
        """Watch objects at these positions from now on."""
        if not len(rows):
            return
        added = self._spots.extend(max(0, int(rows.max()) + 1 - len(self._spots)))
        spots = self._spots.rows
        spots["cell"][added] = _NOWHERE
        spots["ra_deg"][rows], spots["dec_deg"][rows] = ra_deg, dec_deg
        spots["cell"][rows] = cells_at(ra_deg, dec_deg, _ORDER)
        self._waiting.append(rows)
        self._note(rows)

    def drop(self, rows: RowNumbers) -> None:
        """Watch objects no more."""
        rows = rows[rows < len(self._spots)]
        if len(rows):
            self._spots.rows["cell"][rows] = _NOWHERE
            self._note(rows)

    def covered(self, footprint: Footprint, order: int) -> RowNumbers:
        """Return the rows whose position an image covers, in ascending order."""
        view = self._views.get((footprint, order))
        if view is None:
            view = _View(self._covered_of(self._near(footprint), footprint, order), len(self._log))
        elif view.read < len(self._log):
            changed = np.unique(np.concatenate(self._log[view.read :]))
            kept = np.setdiff1d(view.rows, changed, assume_unique=True)
            view = _View(np.union1d(kept, self._covered_of(changed, footprint, order)), len(self._log))
        self._views[footprint, order] = view
        self._views.move_to_end((footprint, order))
        if len(self._views) > _VIEWS:
            self._views.popitem(last=False)
        return view.rows

    def _covered_of(self, rows: RowNumbers, footprint: Footprint, order: int) -> RowNumbers:
        rows = rows[self._spots.rows["cell"][rows] != _NOWHERE]
        if not len(rows):
            return rows
        spots = self._spots.rows[rows]
        return rows[covered_at(footprint, order, spots["ra_deg"].copy(), spots["dec_deg"].copy())]

    def _near(self, footprint: Footprint) -> RowNumbers:
        """Return the rows that an image may cover, in ascending order."""
        _, radius_deg = footprint.cone()
        if radius_deg > _LARGEST_CONE_DEG:
            return np.arange(len(self._spots))
        self._sort()
        coarse = int(np.clip(np.log2(58.6 * _CELLS_ACROSS / max(radius_deg, 1e-6)), 0, _ORDER))
        starts = cells_near(footprint, coarse) << 2 * (_ORDER - coarse)
        found = [_between(run, starts, starts + (1 << 2 * (_ORDER - coarse))) for run in self._runs]
        return np.unique(np.concatenate([np.zeros(0, np.intp), *found]))

    def _sort(self) -> None:
        if not self._waiting:
            return
        chosen, size = self._waiting, sum(map(len, self._waiting))
        while self._runs and len(self._runs[-1][1]) <= max(2 * size, _SMALLEST_RUN):
            chosen.append(self._runs.pop()[1])
            size += len(chosen[-1])
        # A position that moved leaves its row in an older run, where it does no harm: what is found is looked at.
        rows = np.unique(np.concatenate(chosen))
        cells = self._spots.rows["cell"][rows]
        order = np.argsort(cells, kind="stable")
        order = order[np.searchsorted(cells[order], 0) :]
        self._waiting = []
        self._runs.append((cells[order], rows[order]))

    def _note(self, rows: RowNumbers) -> None:
        self._log.append(rows)
        if len(self._log) > _LONGEST_LOG:
            self._log.clear()
            self._views.clear()


def _between(run: tuple[Cells, RowNumbers], starts: Cells, ends: Cells) -> RowNumbers:
    """Return the rows of a run whose cells are in any of these ranges, which do not overlap."""
    first, last = np.searchsorted(run[0], starts), np.searchsorted(run[0], ends)
    count = last - first
    place = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    return np.asarray(run[1][place])
