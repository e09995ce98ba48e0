"""What is known per HEALPix cell: how many images covered it, and which of them has the smallest limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable, Rows

Cells = npt.NDArray[np.int64]
RowNumbers = npt.NDArray[np.intp]

LIMIT = np.dtype(
    [
        ("low", "f8"),
        ("high", "f8"),
        ("fold", "i8"),  # place of the image in the order of folding: it decides between equal limits
        ("image_id", "u1", (16,)),
    ]
)
_PAGE_CELLS = 1024
_PAGE = np.dtype([("number", "i8"), ("n", "u4", (_PAGE_CELLS,)), ("best", "i4", (_PAGE_CELLS,))])
_FIRST_SWEEP = 256


def smaller(a: Rows, b: Rows) -> npt.NDArray[np.bool_]:
    """Return where limits `a` are smaller than `b`: by low, then high, then the image that was folded first."""
    same_low, same_high = a["low"] == b["low"], a["high"] == b["high"]
    return np.asarray(
        (a["low"] < b["low"]) | (same_low & (a["high"] < b["high"])) | (same_low & same_high & (a["fold"] < b["fold"]))
    )


def no_limits(count: int) -> Rows:
    """Return limits that all others are smaller than."""
    rows = np.zeros(count, LIMIT)
    rows["low"] = rows["high"] = np.inf
    rows["fold"] = np.iinfo(np.int64).max
    return rows


@dataclass(slots=True)
class Pages:
    """Cells by the page of 1024 neighbours that they stand on; eight bytes per cell, and a table of the best images."""

    pages: GrowingTable
    images: GrowingTable
    row_of: dict[int, int]
    sweep_at: int = _FIRST_SWEEP

    @classmethod
    def empty(cls) -> Pages:
        """Return no cells."""
        return cls(GrowingTable(_PAGE), GrowingTable(LIMIT), {})

    def look(self, cells: Cells) -> tuple[npt.NDArray[np.int64], Rows]:
        """Return per cell the number of images that covered it, and the smallest limits (`no_limits` where none)."""
        n, limits = np.zeros(len(cells), np.int64), no_limits(len(cells))
        rows = self._rows(cells // _PAGE_CELLS)
        known = np.nonzero(rows >= 0)[0]
        page, place = rows[known], cells[known] % _PAGE_CELLS
        best = self.pages.rows["best"][page, place] - 1
        n[known] = self.pages.rows["n"][page, place]
        held = best >= 0
        limits[known[held]] = self.images.rows[best[held]]
        return n, limits

    def add(self, cells: Cells, count: int, limit: Rows) -> None:
        """Count `count` more images over these cells, the best of which has the limits `limit`, (1,)."""
        _, before = self.look(cells)
        better = smaller(limit, before)
        rows = self._rows(cells // _PAGE_CELLS, make=True)
        place = cells % _PAGE_CELLS
        self.pages.rows["n"][rows, place] += np.uint32(count)
        if better.any():
            image = int(self.images.extend(1)[0])
            self.images.rows[image] = limit[0]
            self.pages.rows["best"][rows[better], place[better]] = image + 1
        self._sweep()

    def _rows(self, numbers: Cells, *, make: bool = False) -> RowNumbers:
        distinct, inverse = np.unique(numbers, return_inverse=True)
        for number in distinct.tolist() if make else ():
            if number not in self.row_of:
                self.row_of[number] = int(self.pages.extend(1)[0])
                self.pages.rows["number"][self.row_of[number]] = number
        rows = [self.row_of.get(number, -1) for number in distinct.tolist()]
        return np.asarray(rows, np.intp)[inverse]

    def _sweep(self) -> None:
        """Forget images that are no longer the best anywhere: there are never many more images than cells."""
        if len(self.images) < self.sweep_at:
            return
        best = self.pages.rows["best"]
        held = np.unique(best[best > 0])
        new_number = np.zeros(len(self.images) + 1, np.int32)
        new_number[held] = np.arange(1, len(held) + 1)
        self.images = GrowingTable(LIMIT, self.images.rows[held - 1].copy())
        self.pages.rows["best"][:] = new_number[best]
        self.sweep_at = max(_FIRST_SWEEP, 2 * len(held))

    def columns(self, prefix: str) -> dict[str, Rows]:
        """Return a copy of all arrays, for a snapshot."""
        return self.pages.columns(f"{prefix}pages.") | self.images.columns(f"{prefix}images.")

    @classmethod
    def from_columns(cls, arrays: dict[str, Any], prefix: str) -> Pages:
        """Return what `columns` held."""
        pages = GrowingTable.from_columns(_PAGE, arrays, f"{prefix}pages.")
        images = GrowingTable.from_columns(LIMIT, arrays, f"{prefix}images.")
        row_of = {number: row for row, number in enumerate(pages.rows["number"].tolist())}
        return cls(pages, images, row_of, max(_FIRST_SWEEP, 2 * len(images)))
