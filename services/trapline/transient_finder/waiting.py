"""Points that wait: an object's points are judged in the order of their images, and some values come later.

A pair of an object and an image that was asked for holds up what follows of that object, and of its children after a
fork, until the value is here. Objects of which nothing is pending never pass through here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.transient_finder.objects import POSITION
from trapline.transient_finder.points import Columns, Context, Points

Bool = npt.NDArray[np.bool_]
Inherit = Callable[[int, int], None]
"""gives a child (the first row) the past of its parent"""


@dataclass(slots=True)
class Entry:
    """A point, a pair that was asked for (no columns yet), or the place where an object takes over a parent's past."""

    context: Context | None
    columns: Columns | None = None
    position: tuple[float, ...] = ()
    """of the object when the pair was decided: the columns of `POSITION`"""
    parent: int = -1
    """row of the parent whose past is taken over"""
    void: bool = False
    """there is no value: nothing to judge, nothing to wait for"""

    @property
    def pending(self) -> bool:
        """Whether its value is still to come."""
        return self.parent < 0 and self.columns is None and not self.void


@dataclass(slots=True)
class Waiting:
    """Queues by row of the object; an object without one waits for nothing."""

    queues: dict[int, deque[Entry]] = field(default_factory=dict[int, deque[Entry]])
    heirs: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """children that wait for a parent, by its row"""

    def __contains__(self, row: int) -> bool:
        return row in self.queues

    def of(self, rows: Iterable[int]) -> Bool:
        """Return which of these objects wait."""
        if not self.queues:
            return np.zeros(len(list(rows)), bool)
        return np.array([int(row) in self.queues for row in rows], bool)

    def hold(self, row: int, entry: Entry) -> None:
        """Put an entry behind what an object waits for."""
        self.queues.setdefault(row, deque()).append(entry)

    def answer(self, row: int, image_id: bytes, columns: Columns, *, void: bool) -> bool:
        """Give the value of a pair, of one row, or that there is none; return whether it was waited for."""
        for entry in self.queues.get(row, ()):
            if entry.pending and entry.context is not None and entry.context.image.id == image_id:
                entry.columns = dict(columns) | {
                    name: np.array([value]) for name, value in zip(POSITION, entry.position, strict=True)
                }
                entry.void = void
                return True
        return False

    def give_up(self, row: int, limit: int) -> int:
        """Wait no more for the oldest pairs of an object that has more than `limit` entries; return how many."""
        queue, given_up = self.queues.get(row, deque()), 0
        for entry in list(queue)[: max(len(queue) - limit, 0)]:
            if entry.pending:
                entry.void = True
                given_up += 1
        return given_up

    def ready(self, rows: Iterable[int], inherit: Inherit) -> Iterator[Points]:
        """Take out what needs to wait no more, in the order of each object, joined by image where that can be.

        Parameters
        ----------
        rows
            Objects to look at.
        inherit
            Called with (child, parent) when a child takes over the past of its parent.
        """
        heads = list(dict.fromkeys(rows))
        while heads:
            joined: dict[bytes, tuple[Context, list[Columns]]] = {}
            following: list[int] = []
            for row in heads:
                entry = self._next(row, inherit, following)
                if entry is not None and entry.context is not None and entry.columns is not None:
                    context = entry.context
                    joined.setdefault(context.record_id, (context, []))[1].append(entry.columns)
                    following.append(row)
            for context, parts in joined.values():
                yield Points.joined(context, parts)
            heads = list(dict.fromkeys(following))

    def _next(self, row: int, inherit: Inherit, following: list[int]) -> Entry | None:
        """Return the next point of an object; when there is none left, those that wait for it are next."""
        queue = self.queues.get(row)
        while queue:
            entry = queue[0]
            if entry.parent >= 0:
                if entry.parent in self.queues:
                    return None
                inherit(row, entry.parent)
            elif entry.pending:
                return None
            elif not entry.void:
                return queue.popleft()
            queue.popleft()
        if queue is not None:
            del self.queues[row]
            following += self.heirs.pop(row, [])
        return None


def single(columns: Mapping[str, npt.NDArray[Any]], row: int) -> Columns:
    """Return one row of columns, with copies: what it is a view of would be kept otherwise."""
    return {name: column[row : row + 1].copy() for name, column in columns.items()}
