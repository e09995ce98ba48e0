"""What is remembered of each object, whatever the band."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.table import GrowingTable
from trapline.schemas.columns import array_to_ids
from trapline.transient_finder.points import Columns

RowNumbers = npt.NDArray[np.intp]

POSITION = ("object_ra_deg", "object_dec_deg", "object_err_ew_deg", "object_err_ns_deg")
OBJECT = np.dtype(
    [
        ("object_id", "u1", (16,)),
        *((name, "f8") for name in POSITION),  # after its newest blind point
        ("placed", "u1"),  # whether that is known
        ("n_blind", "u4"),
        ("open", "i4"),  # episodes that are open
        ("step_us", "i8"),  # newest time step in which it was looked for, and in which bands, as bits:
        ("covering", "i8"),
        ("matched", "i8"),
    ]
)


def _no_objects() -> GrowingTable:
    return GrowingTable(OBJECT)


@dataclass(slots=True)
class Objects:
    """Rows of `OBJECT`, found by id."""

    table: GrowingTable = field(default_factory=_no_objects)
    row_of: dict[bytes, int] = field(default_factory=dict[bytes, int])

    @classmethod
    def of(cls, table: GrowingTable) -> Objects:
        """Return these objects."""
        return cls(table, {id_: row for row, id_ in enumerate(array_to_ids(table.rows["object_id"]))})

    def rows(self, object_ids: npt.NDArray[Any]) -> RowNumbers:
        """Return the rows of objects, appending those that are not known."""
        known = len(self.row_of)
        rows = np.array([self.row_of.setdefault(id_, len(self.row_of)) for id_ in array_to_ids(object_ids)], np.intp)
        if len(self.row_of) > known:
            self.table.extend(len(self.row_of) - known)
            self.table.rows["object_id"][rows] = object_ids
        return rows

    def place(self, rows: RowNumbers, columns: Columns, blind: npt.NDArray[np.bool_]) -> dict[str, npt.NDArray[Any]]:
        """Take the positions of blind points, and return those of all: a forced point is where its object was seen.

        So an event says the same whenever a forced value comes, though the object moves meanwhile.
        """
        table = self.table.rows
        fresh = blind | (table["placed"][rows] == 0)
        for name in POSITION:
            table[name][rows[fresh]] = columns[name][fresh]
        table["placed"][rows[fresh]] = 1
        return {name: table[name][rows] for name in POSITION}

    def note_step(self, rows: RowNumbers, t_us: int, bit: int, *, matched: bool) -> None:
        """Note that objects were looked for in a band of a time step, and whether they were found."""
        found = self.table.rows[rows]
        newer = found["step_us"] < t_us
        for name in ("covering", "matched"):
            found[name][newer] = 0
        found["step_us"][newer] = t_us
        current = found["step_us"] == t_us
        found["covering"][current] |= np.int64(1 << bit)
        if matched:
            found["matched"][current] |= np.int64(1 << bit)
        self.table.rows[rows] = found
