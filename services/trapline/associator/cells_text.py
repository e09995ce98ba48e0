"""Sets of HEALPix cells as text: ``"1/0-23 2/96,99"`` is the cells 0 to 23 of order 1, and 96 and 99 of order 2.

The notation is that of the IVOA's multi-order coverage maps (MOC 2.0, section 4.3.2), cells in nested numbering, ICRS.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Ranges = npt.NDArray[np.int64]
"""(n, 2): first cell and the one behind the last, of order `ORDER`, ascending, not touching"""

ORDER = 29
WHOLE_SKY = "0/0-11"
_TERM = re.compile(r"(\d+)/([\d,\-]+)")
_SPAN = re.compile(r"(\d+)(?:-(\d+))?")


def ranges_of(text: str) -> Ranges:
    """Return the cells that a text names.

    Raises
    ------
    ValueError
        When it names none, or what is no cell: the text says what, and what would be right.
    """
    found = [span for term in text.split() for span in _spans(term)]
    if not found:
        raise ValueError(f'{text!r} names no cells: ORDER/CELLS is right, such as "1/0-23" for the north')
    spans = np.array(sorted(found), np.int64)
    furthest = np.maximum.accumulate(spans[:, 1])
    begins = np.concatenate([[True], spans[1:, 0] > furthest[:-1]])
    starts = np.nonzero(begins)[0]
    return np.stack([spans[starts, 0], np.maximum.reduceat(spans[:, 1], starts)], axis=1)


def common_cell(a: Ranges, b: Ranges) -> str | None:
    """Return a cell that is in both, as text; None when they have none in common."""
    last = np.searchsorted(b[:, 0], a[:, 1]) - 1
    touching = np.nonzero((last >= 0) & (b[np.maximum(last, 0), 1] > a[:, 0]))[0]
    if not len(touching):
        return None
    first = touching[0]
    start, end = int(max(a[first, 0], b[last[first], 0])), int(min(a[first, 1], b[last[first], 1]))
    sizes = [(order, 4 ** (ORDER - order)) for order in range(ORDER + 1)]
    return next(f"{order}/{start // size}" for order, size in sizes if start % size == 0 and start + size <= end)


def holds(ranges: Ranges, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which cells of order `ORDER` are among these."""
    place = np.searchsorted(ranges[:, 0], cells, side="right") - 1
    return np.asarray((place >= 0) & (cells < ranges[np.maximum(place, 0), 1]))


def _spans(term: str) -> list[tuple[int, int]]:
    found = _TERM.fullmatch(term)
    if not found:
        raise ValueError(f'{term!r} is not ORDER/CELLS, such as "1/0-23" or "2/5,7,16-31"')
    order = int(found[1])
    if order > ORDER:
        raise ValueError(f"{term!r}: there is no order above {ORDER}")
    return [_span(term, order, text) for text in found[2].split(",")]


def _span(term: str, order: int, text: str) -> tuple[int, int]:
    found, last_cell = _SPAN.fullmatch(text), (12 << 2 * order) - 1
    if not found:
        raise ValueError(f'{term!r}: {text!r} is no cell and no range of cells, such as "5" or "16-31"')
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= last_cell:
        raise ValueError(f"{term!r}: cells of order {order} are 0 to {last_cell}, ranges ascend")
    shift = 2 * (ORDER - order)
    return first << shift, (last + 1) << shift
