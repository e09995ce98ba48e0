"""Tables of columns: what an array of a message must look like, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array]

DTYPES = frozenset({"u1", "u4", "i4", "i8", "f4", "f8"})


class SchemaError(ValueError):
    """A message that is not what its schema says. The text names the field and what would be right."""


class NewerSchemaError(SchemaError):
    """A message of a major version that this program cannot read. The text says which it can."""


class Kind(IntEnum):
    """How a measurement came to be."""

    BLIND = 0
    """detected without being asked for"""
    FORCED = 1
    """measured at a known object"""
    MONITORED = 2
    """measured at a position that an operator watches"""
    BACKFILL = 3
    """measured at a known object in an image from before its first detection"""


class Link(IntEnum):
    """How a measurement was joined to its object."""

    ONE_TO_ONE = 0
    NEW = 1
    FORKED = 2
    """one object, several sources"""
    SHARED = 3
    """several objects, one source"""
    FORCED = 4
    MONITORED = 5


class Flag(IntFlag):
    """What a measurement suffers from."""

    NEAR_EDGE = 1
    """pixels of the fit lie outside the image or its region"""
    BLENDED = 2
    """another source lies within the pixels of the fit"""
    MASKED = 4
    """a saturated, masked or NaN pixel lies within the fit"""
    FIT_FAILED = 8
    """moments were used instead of the fit"""
    NEGATIVE = 16
    EXTENDED = 32
    """wider than the beam by more than its error"""
    NEAR_BRIGHT = 64
    """in the side lobes of a bright source"""
    NO_PIXELS = 128
    """asked for, but the pixels were gone: fluxes are NaN"""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a message: name, numpy dtype without byte order, shape after the row axis, unit, meaning."""

    name: str
    dtype: str
    description: str
    unit: str = ""
    width: tuple[int, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length. A table with a prefix names its arrays ``prefix.column``."""

    name: str
    columns: tuple[Column, ...]
    prefix: str = ""
    optional: bool = False

    def key(self, column: Column) -> str:
        """Return the name of the array that carries this column."""
        return f"{self.prefix}.{column.name}" if self.prefix else column.name

    def check(self, arrays: Arrays) -> int:
        """Return the number of rows, or raise `SchemaError` naming the column that is missing or wrong."""
        present = [c for c in self.columns if self.key(c) in arrays]
        if not present and self.optional:
            return 0
        rows = {len(arrays[self.key(c)]) for c in present if arrays[self.key(c)].ndim}
        for column in self.columns:
            self._check_column(column, arrays.get(self.key(column)))
        if len(rows) > 1:
            raise SchemaError(f"table {self.name}: columns have {sorted(rows)} rows, all must have the same number")
        return rows.pop() if rows else 0

    def _check_column(self, column: Column, array: Array | None) -> None:
        if array is None:
            if column.optional:
                return
            raise SchemaError(f"table {self.name}: column {self.key(column)!r} is missing")
        found = (array.dtype.str[1:], array.shape[1:], array.ndim)
        if found != (column.dtype, column.width, 1 + len(column.width)):
            shape = ", ".join(["n", *map(str, column.width)])
            raise SchemaError(
                f"table {self.name}: column {self.key(column)!r} is {array.dtype} {array.shape}, "
                f"not {column.dtype} ({shape})"
            )

    def empty(self, rows: int = 0) -> dict[str, Array]:
        """Return arrays of this table with `rows` rows: zeros, and NaN for floats ("not measured")."""
        return {self.key(c): _blank(c, rows) for c in self.columns if not c.optional}

    def select(self, arrays: Arrays) -> dict[str, Array]:
        """Return this table's arrays by plain column name."""
        return {c.name: arrays[self.key(c)] for c in self.columns if self.key(c) in arrays}

    def prefixed(self, columns: Arrays) -> dict[str, Array]:
        """Return columns by the names their frames have: the inverse of `select`."""
        return {self.key(c): columns[c.name] for c in self.columns if c.name in columns}


@dataclass(frozen=True, slots=True)
class Plane:
    """One array with free axes, as an image: name, dtype, number of axes, meaning."""

    name: str
    dtype: str
    axes: tuple[str, ...]
    description: str
    unit: str = ""
    optional: bool = True

    def check(self, arrays: Arrays) -> None:
        """Raise `SchemaError` when the array is missing or not of this type."""
        array = arrays.get(self.name)
        if array is None:
            if self.optional:
                return
            raise SchemaError(f"frame {self.name!r} is missing")
        if array.dtype.str[1:] != self.dtype or array.ndim != len(self.axes):
            wanted = f"{self.dtype} ({', '.join(self.axes)})"
            raise SchemaError(f"frame {self.name!r} is {array.dtype} with {array.ndim} axes, not {wanted}")


def _blank(column: Column, rows: int) -> Array:
    shape = (rows, *column.width)
    if column.dtype.startswith("f"):
        return np.full(shape, np.nan, dtype=column.dtype)
    return np.zeros(shape, dtype=column.dtype)


def id_column(name: str, description: str) -> Column:
    """Return a column of 16-byte ids."""
    return Column(name, "u1", description, width=(16,))


def ids_to_array(ids: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Return (n, 16) bytes from n ids of 16 bytes."""
    return np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16)


def array_to_ids(array: Array) -> list[bytes]:
    """Return n ids of 16 bytes from (n, 16) bytes: the inverse of `ids_to_array`."""
    data = np.ascontiguousarray(array).tobytes()
    return [data[i : i + 16] for i in range(0, len(data), 16)]
