"""Misses: finished time steps in which an image covered an object and none matched it, since its last match."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trapline.common.table import Rows
from trapline.schemas.columns import Kind

RowNumbers = npt.NDArray[np.intp]


def note_covered(objects: Rows, rows: RowNumbers, t_us: int) -> None:
    """Begin a time step of the objects that an image covers, and end the one before it.

    Images of one start are one step, whatever their bands. An object whose newest step is this one, or a later one, is
    left as it is.

    Parameters
    ----------
    objects
        Rows of `catalogue.OBJECT`, of the whole catalogue; changed.
    rows
        Rows of objects that were known before this image.
    t_us
        Start of the image, which is not late: microseconds since 1970-01-01 UTC.
    """
    begun = rows[(objects["step_us"][rows] < t_us) & (objects["kind"][rows] != Kind.MONITORED)]
    objects["misses"][begun] += objects["step_matched"][begun] == 0
    objects["step_us"][begun] = t_us
    objects["step_matched"][begun] = 0


def note_matched(objects: Rows, rows: RowNumbers, t_us: int, *, late: bool) -> None:
    """Note a match: it ends the misses; of a late image it says nothing about the newest step."""
    objects["misses"][rows] = 0
    if not late:
        objects["step_us"][rows] = t_us
        objects["step_matched"][rows] = 1


def note_founded(objects: Rows, rows: RowNumbers, t_us: int) -> None:
    """Note the step in which objects were founded: they were matched in it."""
    objects["step_us"][rows] = t_us
    objects["step_matched"][rows] = 1
