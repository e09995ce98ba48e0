"""What keeps a point from alarming anyone, whatever the rules say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Flag

Bool = npt.NDArray[np.bool_]
Points = Mapping[str, npt.NDArray[Any]]
Veto = Callable[[Points], Bool]
"""columns of `lightcurves` to the points that must not alarm"""


def near_edge(points: Points) -> Bool:
    """Return points measured with pixels beyond the edge of the image or its region."""
    return np.asarray((points["flags"] & Flag.NEAR_EDGE) != 0)


def negative(points: Points) -> Bool:
    """Return points that are holes in the image."""
    return np.asarray((points["flags"] & Flag.NEGATIVE) != 0)


VETOES: tuple[Veto, ...] = (near_edge, negative)


class Vetoes:
    """The vetoes on some points. Adds the events that each suppresses to `suppressed`; the first that holds counts."""

    def __init__(self, points: Points, suppressed: dict[str, int], vetoes: tuple[Veto, ...] = VETOES) -> None:
        self._held = [(veto.__name__, veto(points)) for veto in vetoes]
        self._suppressed = suppressed

    def passing(self, alarming: Bool) -> Bool:
        """Return the alarming points that may alarm, and count the others."""
        for name, held in self._held:
            stopped = alarming & held
            if stopped.any():
                self._suppressed[name] = self._suppressed.get(name, 0) + int(stopped.sum())
            alarming = alarming & ~held
        return alarming
