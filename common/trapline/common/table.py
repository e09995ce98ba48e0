"""Columns in memory that grow by doubling: state without a Python object per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]

_FIRST_ROWS = 16


class GrowingTable:
    """Rows of one structured type. Appending costs the same on average however many there are.

    Parameters
    ----------
    dtype
        Structured type of a row.
    rows
        First rows, taken over without a copy.
    """

    def __init__(self, dtype: np.dtype[Any], rows: Rows | None = None) -> None:
        self._rows: Rows = np.zeros(_FIRST_ROWS, dtype) if rows is None else rows
        self._length = 0 if rows is None else len(rows)

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> Rows:
        """The rows, as a view to read and to write: valid until the next `extend`."""
        return self._rows[: self._length]

    def extend(self, count: int) -> npt.NDArray[np.intp]:
        """Append `count` rows of zeros and return their numbers."""
        first, self._length = self._length, self._length + count
        if self._length > len(self._rows):
            grown = np.zeros(max(self._length, 2 * len(self._rows)), self._rows.dtype)
            grown[:first] = self._rows[:first]
            self._rows = grown
        return np.arange(first, self._length)

    def columns(self, prefix: str = "") -> dict[str, Rows]:
        """Return a copy of each column by ``prefix`` + name: what a snapshot holds."""
        return {prefix + name: np.ascontiguousarray(self.rows[name]).copy() for name in self._rows.dtype.names or ()}

    @classmethod
    def from_columns(cls, dtype: np.dtype[Any], arrays: Mapping[str, Rows], prefix: str = "") -> GrowingTable:
        """Return the table whose `columns` these are.

        Raises
        ------
        ValueError
            When a column is missing or not of its type, naming it.
        """
        names = dtype.names or ()
        missing = [prefix + name for name in names if prefix + name not in arrays]
        if missing:
            raise ValueError(f"the columns {', '.join(missing)} are missing")
        lengths = {prefix + name: len(arrays[prefix + name]) for name in names}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of one table have different lengths: {lengths}")
        rows = np.zeros(next(iter(lengths.values()), 0), dtype)
        for name in names:
            column = arrays[prefix + name]
            if column.dtype != rows[name].dtype or column.shape != rows[name].shape:
                raise ValueError(f"column {prefix + name} is {column.dtype} {column.shape}, not {rows[name].dtype}")
            rows[name] = column
        return cls(dtype, rows)
