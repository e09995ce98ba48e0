"""Snapshots of older versions, brought up to the one that this program reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trapline.associator.cells_text import WHOLE_SKY
from trapline.associator.packing import PAIR
from trapline.common.table import GrowingTable, Rows
from trapline.schemas.columns import Array

Snapshot = tuple[dict[str, Any], dict[str, Rows]]


def migrated(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Snapshot:
    """Return a snapshot as the newest version would have written it; one of an unknown version as it is."""
    snapshot: Snapshot = dict(header), dict(arrays)
    while (step := _STEPS.get(str(snapshot[0].get("version")))) is not None:
        snapshot = step(*snapshot)
    return snapshot


def _from_1(header: dict[str, Any], arrays: dict[str, Rows]) -> Snapshot:
    """Add what version 1 did not know: forks, the watchlist, misses and requests.

    Objects are watched where they are now, and have no misses: forced points begin with the next image.
    """
    for number, sky in enumerate(header.get("skies", ())):
        at = f"{number}.objects."
        if f"{at}ra_deg" not in arrays or f"{at}dec_deg" not in arrays:
            continue
        count = len(arrays[f"{at}ra_deg"])
        arrays |= {f"{at}watch_{name}": arrays[at + name].copy() for name in ("ra_deg", "dec_deg")}
        arrays |= {f"{at}{name}": np.zeros(count, "u1") for name in ("retired", "kind")}
        arrays |= {f"{at}{name}": np.ones(count, "u1") for name in ("listed", "step_matched")}
        arrays |= {f"{at}parent": np.zeros(count, "i4"), f"{at}misses": np.zeros(count, "u4")}
        arrays[f"{at}step_us"] = np.full(count, sky.get("watermark_us") or 0, "i8")
        sky["recent"], sky["histories"] = [], []
    arrays |= GrowingTable(PAIR).columns("requests.")
    return header | {"version": "trapline.associator.snapshot/2", "requests": [], "told": 0}, arrays


def _from_2(header: dict[str, Any], arrays: dict[str, Rows]) -> Snapshot:
    """Add what version 2 did not know: regions. It owned the whole sky."""
    return header | {"version": "trapline.associator.snapshot/3", "region": WHOLE_SKY}, arrays


_STEPS = {"trapline.associator.snapshot/1": _from_1, "trapline.associator.snapshot/2": _from_2}
