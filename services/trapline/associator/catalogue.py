"""Objects: who they are and where, as the weighted mean of their blind detections in all bands.

The mean is taken in the plane that touches the sky at the object's first position, with one weight to the east and one
to the north, so that it is right at RA 0 and at the poles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trapline.associator.index import SkyIndex
from trapline.common.sky import from_tangent, tangent_offsets, unit_vectors
from trapline.common.table import GrowingTable, Rows
from trapline.schemas.columns import Kind

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]
Ids = npt.NDArray[np.uint8]

OBJECT = np.dtype(
    [
        ("object_id", "u1", (16,)),
        ("first_ra_deg", "f8"),
        ("first_dec_deg", "f8"),
        ("weight_ew", "f8"),
        ("weight_ns", "f8"),
        ("east_deg", "f8"),
        ("north_deg", "f8"),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("n_blind", "u4"),
        ("first_seen_us", "i8"),
        ("parent", "i4"),  # row of the object that it continues, plus one; 0 when it was founded
        ("retired", "u1"),  # 1 when it forked: its children continue
        ("watch_ra_deg", "f8"),  # where forced values of it are measured
        ("watch_dec_deg", "f8"),
        ("kind", "u1"),  # 0 detected, 2 a monitored position: `Kind`; or `NEIGHBOUR`
        ("listed", "u1"),  # 1 when it is on the watchlist
        ("misses", "u4"),  # finished time steps without a match since the last one
        ("step_us", "i8"),  # newest time step in which an image covered it
        ("step_matched", "u1"),  # 1 when it was matched in that step
    ]
)

NEIGHBOUR = 255
"""kind of an object that another associator owns and tells of"""


@dataclass(frozen=True, slots=True)
class Positions:
    """Measured positions: ICRS degrees, and 1-sigma errors on the sky in degrees, (n,) each."""

    ra_deg: Float
    dec_deg: Float
    err_ew_deg: Float
    err_ns_deg: Float

    def __len__(self) -> int:
        return len(self.ra_deg)

    def take(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Positions:
        """Return some of them."""
        return Positions(self.ra_deg[rows], self.dec_deg[rows], self.err_ew_deg[rows], self.err_ns_deg[rows])

    def largest_err_deg(self) -> Float:
        """Return the larger of both errors."""
        return np.maximum(self.err_ew_deg, self.err_ns_deg)


def _no_objects() -> GrowingTable:
    return GrowingTable(OBJECT)


@dataclass(slots=True)
class Catalogue:
    """The objects of one dataset; rows are in the order in which they were founded."""

    table: GrowingTable = field(default_factory=_no_objects)
    index: SkyIndex = field(default_factory=SkyIndex)
    children: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    """rows of what each retired object became"""

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def of(cls, table: GrowingTable) -> Catalogue:
        """Return the catalogue with these objects, its index planted anew."""
        catalogue = cls(table)
        positions = catalogue.positions(np.arange(len(table)))
        catalogue.index.insert(unit_vectors(positions.ra_deg, positions.dec_deg), positions.largest_err_deg())
        catalogue.index.remove(np.nonzero((table.rows["retired"] != 0) | (table.rows["kind"] == Kind.MONITORED))[0])
        catalogue._note_children(np.arange(len(table)))
        return catalogue

    def found(self, object_ids: Ids, positions: Positions, t_us: int) -> RowNumbers:
        """Append one object per position and return their rows. The positions are not yet in their means: `move`."""
        rows = self.table.extend(len(positions))
        table = self.table.rows
        table["object_id"][rows] = object_ids
        for name, value in (("ra_deg", positions.ra_deg), ("dec_deg", positions.dec_deg)):
            table[f"first_{name}"][rows] = table[name][rows] = table[f"watch_{name}"][rows] = value
        table["first_seen_us"][rows] = t_us
        self.index.insert(unit_vectors(positions.ra_deg, positions.dec_deg), positions.largest_err_deg())
        return rows

    def fork(self, parents: RowNumbers, object_ids: Ids) -> RowNumbers:
        """Append one child per entry of `parents`, which are retired, and return the rows of the children.

        A child begins as its parent was: its position, its errors, its past.
        """
        rows = self.table.extend(len(parents))
        table = self.table.rows
        table[rows] = table[parents]
        table["object_id"][rows] = object_ids
        table["parent"][rows] = parents + 1
        now = positions_of(table[rows])
        self.index.insert(unit_vectors(now.ra_deg, now.dec_deg), now.largest_err_deg())
        table["retired"][parents] = 1
        self.index.remove(np.unique(parents))
        self._note_children(rows)
        return rows

    def owned(self, rows: RowNumbers) -> npt.NDArray[np.bool_]:
        """Return which of these objects are not another associator's."""
        return np.asarray(self.table.rows["kind"][rows] != NEIGHBOUR)

    def watch(self, rows: RowNumbers) -> None:
        """Measure forced values of these objects where they are now."""
        table = self.table.rows
        for name in ("ra_deg", "dec_deg"):
            table[f"watch_{name}"][rows] = table[name][rows]

    def descendants(self, row: int) -> list[int]:
        """Return the rows of all that an object became, itself first."""
        found = [row]
        for parent in found:
            found.extend(self.children.get(parent, ()))
        return found

    def _note_children(self, rows: RowNumbers) -> None:
        parents = self.table.rows["parent"][rows]
        for row, parent in zip(rows[parents > 0].tolist(), parents[parents > 0].tolist(), strict=True):
            self.children.setdefault(parent - 1, []).append(row)

    def move(self, rows: RowNumbers, positions: Positions) -> None:
        """Take one blind position into the mean of each of these objects (each at most once)."""
        after = self.table.rows[rows]
        east, north = tangent_offsets(
            positions.ra_deg, positions.dec_deg, after["first_ra_deg"].copy(), after["first_dec_deg"].copy()
        )
        for weight, mean, offset, error in (
            ("weight_ew", "east_deg", east, positions.err_ew_deg),
            ("weight_ns", "north_deg", north, positions.err_ns_deg),
        ):
            new = error**-2.0
            after[weight] += new
            after[mean] += (offset - after[mean]) * (new / after[weight])
        after["n_blind"] += 1
        ra, dec = _on_sky(after["east_deg"], after["north_deg"], after["first_ra_deg"], after["first_dec_deg"])
        # The first position is exactly the mean of one, not the mean to rounding.
        alone = after["n_blind"] == 1
        after["ra_deg"] = np.where(alone, after["first_ra_deg"], ra)
        after["dec_deg"] = np.where(alone, after["first_dec_deg"], dec)
        self.table.rows[rows] = after
        now = positions_of(after)
        self.index.move(rows, unit_vectors(now.ra_deg, now.dec_deg), now.largest_err_deg())

    def positions(self, rows: RowNumbers) -> Positions:
        """Return the weighted mean positions of objects and their errors."""
        return positions_of(self.table.rows[rows])


def positions_of(rows: Rows) -> Positions:
    """Return the weighted mean positions in rows of `OBJECT`, and their errors."""
    # Copies, because a column of contiguous numbers is worked through faster, and always in the same way.
    return Positions(
        rows["ra_deg"].copy(), rows["dec_deg"].copy(), rows["weight_ew"] ** -0.5, rows["weight_ns"] ** -0.5
    )


def _on_sky(east: Float, north: Float, ra0: Float, dec0: Float) -> tuple[Float, Float]:
    return from_tangent(east.copy(), north.copy(), ra0.copy(), dec0.copy())
