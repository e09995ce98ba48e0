"""What a full survey would need, from what this one took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trapline.survey.visitlog import VisitRow

_HOUR_S = 3600.0
_LOAD = 0.7
_GROWS = 1.05
_ROWS = ("detections", "forced", "points", "objects", "alerts", "bytes")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is carried over from a run to a year; all of it is printed with the result.

    Attributes
    ----------
    visits_per_night, nights
        Of the full survey.
    cadence_s
        From one visit to the next.
    steady_from
        First visit that counts: before it the field fills with objects.
    """

    visits_per_night: int
    nights: int
    cadence_s: float
    steady_from: int


def extrapolate(
    rows: Sequence[VisitRow], busy_s: Mapping[str, float], store_bytes: int, assumed: Assumptions
) -> dict[str, Any]:
    """Return what a year of visits takes, if every one is like the steady ones of a run.

    Parameters
    ----------
    rows
        All visits of the run.
    busy_s
        Processor seconds that each service worked on records, over the whole run.
    store_bytes
        By how much the database with its indexes grew in the run.

    Returns
    -------
    dict
        Per visit and per year: detections, forced measurements, points, new objects, alerts, bytes of the store, hours
        of work; and how many cores and hosts of this kind keep the cadence.
    """
    if not rows:
        return {}
    steady = rows[assumed.steady_from :] or rows[-1:]
    visits = assumed.visits_per_night * assumed.nights
    points = rows[-1].points
    per_visit = {
        "detections": sum(row.detections for row in steady) / len(steady),
        "forced": sum(row.forced for row in steady) / len(steady),
        "alerts": sum(row.alerts for row in steady) / len(steady),
    }
    # The field of a visit is looked up before it: what it adds shows in the next one.
    fields = rows[-len(steady) - 1 :] if len(rows) > len(steady) else rows
    per_visit["objects"] = max(0.0, (fields[-1].objects - fields[0].objects) / max(1, len(fields) - 1))
    per_visit["points"] = per_visit["detections"] + per_visit["forced"]
    per_visit["bytes"] = store_bytes / points * per_visit["points"] if points else 0.0
    per_visit["work_s"] = sum(busy_s.values()) / len(rows)
    slowest = max(busy_s.values(), default=0.0) / len(rows)
    return {
        "per_visit": per_visit,
        "per_year": {
            "visits": visits,
            **{name: per_visit[name] * visits for name in _ROWS},
            "work_h": per_visit["work_s"] * visits / _HOUR_S,
        },
        "growth": _growth(steady),
        "cores": per_visit["work_s"] / assumed.cadence_s,
        # A service is one process: the busiest sets how many regions of the sky must share the work.
        "regions": slowest / assumed.cadence_s,
        "bytes_per_point": store_bytes / points if points else None,
    }


def lines(found: Mapping[str, Any], assumed: Assumptions) -> Iterator[str]:
    """Yield a result of `extrapolate` as text for a person, the assumptions first."""
    if not found:
        yield "no visits: nothing to extrapolate from"
        return
    yield (
        f"a year of {assumed.nights} nights of {assumed.visits_per_night} visits, one every {assumed.cadence_s:g} s, "
        f"each like those from visit {assumed.steady_from} on; work as on this machine; no point is binned or dropped:"
    )
    visit, year = found["per_visit"], found["per_year"]
    for name in _ROWS:
        unit = "B" if name == "bytes" else ""
        yield f"  {name:12} {_short(visit[name], unit):>10} a visit {_short(year[name], unit):>10} a year"
    yield f"  {'work':12} {visit['work_s']:>9.3g}s a visit {year['work_h']:>9.3g}h a year"
    if found["growth"] > _GROWS:
        yield (
            f"  it will be more: visits still grow, by {100 * (found['growth'] - 1):.0f} % from the first half of "
            "these to the second, since new objects are measured for survey.forced_s"
        )
    regions = max(1, math.ceil(found["regions"] / _LOAD))
    yield (
        f"  cores busy while it observes: {found['cores']:.3g}; the busiest service {found['regions']:.3g} of one: "
        f"{regions} region(s) of the sky at {100 * _LOAD:.0f} % load"
    )


def _growth(steady: Sequence[VisitRow]) -> float:
    """Return the rows of the second half of some visits over those of the first; 1 when there are too few."""
    half = len(steady) // 2
    first, second = (sum(row.detections + row.forced for row in part) for part in (steady[:half], steady[-half:]))
    return second / first if half and first else 1.0


def _short(value: float, unit: str) -> str:
    for power, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()
