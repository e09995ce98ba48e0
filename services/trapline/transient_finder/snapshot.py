"""The state as a header and arrays, and back: a fold that continues from a snapshot gives the same output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trapline.common.runtime.snapshot import restoring
from trapline.common.table import GrowingTable
from trapline.schemas.columns import Array
from trapline.transient_finder.core import FinderState
from trapline.transient_finder.history import OBJECT, POINT, BandHistory, Ring

VERSION = "trapline.transient_finder.snapshot/1"


def dump(state: FinderState) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the state as a map that msgpack can pack, and arrays by name: copies, so that the stream can go on."""
    arrays: dict[str, Array] = {}
    for number, history in enumerate(state.bands.values()):
        arrays |= history.table.columns(f"band{number}.")
    header: dict[str, Any] = {"version": VERSION, "bands": [list(band) for band in state.bands], "ring": None}
    if state.ring is not None:
        arrays |= state.ring.table.columns("ring.")
        header["ring"] = {"capacity": state.ring.capacity, "written": state.ring.written}
    return header, arrays


def load(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> FinderState:
    """Return the state that was dumped.

    Raises
    ------
    SnapshotError
        When it is of another version, or something is missing or not of its type.
    """
    with restoring(header, VERSION):
        bands = {
            (name, stokes): BandHistory.of(GrowingTable.from_columns(OBJECT, arrays, f"band{number}."))
            for number, (name, stokes) in enumerate(header["bands"])
        }
        ring = header["ring"]
        if ring is not None:
            table = GrowingTable.from_columns(POINT, arrays, "ring.")
            return FinderState(bands, Ring(ring["capacity"], table, ring["written"]))
        return FinderState(bands)
