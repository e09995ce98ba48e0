"""Bins that are not full yet, held in memory: what a batch of points closes, and what comes late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trapline.common.store.bins import WIDTHS_US, Rows, merged
from trapline.database_dumper.binary_copy import MIN_T_US

TIERS = tuple(WIDTHS_US)

_MOST_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class OpenBins:
    """The bins of one dataset that are not stored yet.

    Attributes
    ----------
    marks
        By tier, in microseconds since 1970: everything before is in stored bins of that tier.
    newest
        Start of the newest image.
    chunks
        By tier, what its open bins will be made of: rows at or after its mark. Of the finest tier these are points, of
        the others the closed bins of the tier before.
    """

    marks: Mapping[str, int]
    newest: int
    chunks: Mapping[str, Sequence[Rows]]

    @classmethod
    def beginning(cls, t_us: int) -> OpenBins:
        """Return no bins, where the first point has this time.

        The first day of all time is never begun: its start is how the driver writes "without a beginning".
        """
        t_us = max(t_us, MIN_T_US + WIDTHS_US["day"])
        marks = {tier: t_us // width * width for tier, width in WIDTHS_US.items()}
        return cls(marks, t_us, dict.fromkeys(TIERS, ()))


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be stored, by tier: new bins, and bins to be merged into those that are stored."""

    closed: Mapping[str, Rows]
    late: Mapping[str, Rows]


def advance(bins: OpenBins, points: Rows, newest: int, until: int) -> tuple[OpenBins, Changes]:
    """Take points, and close what ends at or before `until`.

    A closed bin becomes part of the open bin of the next tier. A point before a tier's mark is late there: it goes into
    the stored bin, and into the next tier, where it may still be in time.

    Parameters
    ----------
    bins
        As they were.
    points
        As bins of one, with their own times.
    newest, until
        In microseconds since 1970; marks never move back.
    """
    marks, chunks, closed, late = {}, {}, {}, {}
    arriving = points
    for tier, width in WIDTHS_US.items():
        mark = bins.marks[tier]
        marks[tier] = max(mark, until // width * width)
        in_time = arriving["t"] >= mark
        late[tier] = merged([arriving[~in_time]], width)
        parts = [*bins.chunks[tier], arriving[in_time]]
        if marks[tier] > mark:
            rows = np.concatenate(parts)
            ends = rows["t"] < marks[tier]
            closed[tier] = merged([rows[ends]], width)
            parts = [rows[~ends]]
        else:
            closed[tier] = merged([], width)
        chunks[tier] = _compact(parts, width)
        arriving = np.concatenate([closed[tier], late[tier]])
        until = marks[tier]
    return OpenBins(marks, max(bins.newest, newest), chunks), Changes(closed, late)


def _compact(parts: Sequence[Rows], width: int) -> Sequence[Rows]:
    filled = [part for part in parts if len(part)]
    return filled if len(filled) < _MOST_CHUNKS else [merged(filled, width)]
