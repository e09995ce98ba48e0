"""What a survey was like: in a few numbers, and visit by visit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trapline.survey.visitlog import SERVICES, VisitRow

_IN_LINE = ("find_s", "objects_s", "history_s", "publish_s", "match_s", "alert_s", "forced_s", "store_s")
STEPS = (*_IN_LINE, "objects_stored_s", "history_stored_s")
_ENDS = 20  # visits at each end that are compared

_HEADING = (
    f"{'visit':>6} {'detected':>9} {'objects':>9} {'history':>10} {'forced':>8} {'alerts':>7}"
    + "".join(f"{name.removesuffix('_s'):>9}" for name in _IN_LINE)
    + "\n"
)


def line(row: VisitRow, *, heading: bool) -> str:
    """Return a visit as a line of a table, seconds of each step last."""
    text = f"{row.visit:6d} {row.detections:9d} {row.objects:9d} {row.history:10d} {row.forced:8d} {row.alerts:7d}"
    seconds = "".join(f"{getattr(row, name):9.3f}" for name in _IN_LINE)
    return (
        (_HEADING if heading else "") + text + seconds + ("  LOST" if row.lost else "  late" if row.late else "") + "\n"
    )


def summary(rows: Sequence[VisitRow]) -> dict[str, Any]:
    """Return totals, what association and alerts were worth, and how long a visit took at the begin and at the end.

    `growth` is the median of the last twenty visits over that of the first twenty; the first visit of all, which warms
    up every process, is left out. None while there are fewer than forty.
    """
    if not rows:
        return {"visits": 0}
    again, right, joined = (sum(getattr(row, name) for row in rows) for name in ("again", "right", "joined"))
    warm = [row.store_s for row in rows[1:] if not row.lost] or [row.store_s for row in rows]
    last = rows[-1]
    return {
        "visits": len(rows),
        "late": sum(row.late for row in rows),
        "lost": sum(row.lost for row in rows),
        "detections": sum(row.detections for row in rows),
        "bodies": sum(row.bodies for row in rows),
        "forced": sum(row.forced for row in rows),
        "points": last.points,
        "completeness": right / again if again else None,
        "purity": right / joined if joined else None,
        "duplicates": sum(row.duplicates for row in rows),
        "transients_detected": last.transients_detected,
        "transients_announced": last.transients_announced,
        "seconds": {name: _median([getattr(row, name) for row in rows[1:] or rows]) for name in STEPS},
        "worked": {name: sum(getattr(row, f"{name}_s") for row in rows) / len(rows) for name in SERVICES},
        "growth": float(np.median(warm[-_ENDS:]) / np.median(warm[:_ENDS])) if len(warm) >= 2 * _ENDS else None,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield a summary as text for a person."""
    yield f"{found['visits']} visits, {found.get('late', 0)} late, {found.get('lost', 0)} lost"
    if not found["visits"]:
        return
    yield (
        f"{found['detections']} detections and {found['forced']} forced measurements made {found['points']} points; "
        f"{found['bodies']} detections of known bodies were kept apart"
    )
    if found["completeness"] is not None:
        yield (
            f"association: {100 * found['completeness']:.2f} % of repeated detections found their object, "
            f"{100 * (found['purity'] or 0):.2f} % of what was joined belongs there, {found['duplicates']} duplicates"
        )
    yield f"transients: {found['transients_announced']} of the {found['transients_detected']} detected are announced"
    seconds = found["seconds"].items()
    steps = ", ".join(f"{name.removesuffix('_s')} {value:.3f}" for name, value in seconds if value is not None)
    yield f"seconds per visit (median): {steps}"
    worked = ", ".join(f"{name} {value:.3f}" for name, value in found["worked"].items())
    yield f"seconds per visit that a service worked: {worked}"
    if found["growth"] is not None:
        yield f"the last {_ENDS} visits took {found['growth']:.3f} of the time of the first {_ENDS}"


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if finite else None
