"""A run that has ended, from its directory: what is summed up, compared and extrapolated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from trapline.common.journal import PartitionReader
from trapline.schemas.message import decode_header
from trapline.schemas.status import Status
from trapline.survey.extrapolate import Assumptions, extrapolate
from trapline.survey.extrapolate import lines as extrapolated
from trapline.survey.report import STEPS, lines, summary
from trapline.survey.visitlog import NAME, SERVICES, VisitRow, load_taken, read_rows

_STEADY_FROM = 20
_COMPARED = ("visits", "late", "lost", "detections", "forced", "points", "completeness", "purity", "duplicates")
_DAY_US = 86_400_000_000
_NIGHT_US = 36_000_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its visits, what its store holds and takes, and how long each service worked."""

    name: str
    rows: Sequence[VisitRow]
    taken: Mapping[str, Any]
    busy_s: Mapping[str, float]

    def assumptions(self, nights: int) -> Assumptions:
        """Return how a year is made of this run's visits: its own cadence, in nights of ten hours."""
        begins = [row.t_us for row in self.rows]
        cadence_us = min((later - earlier for earlier, later in pairwise(begins)), default=_DAY_US)
        steady = min(_STEADY_FROM, len(self.rows) // 2)
        return Assumptions(max(1, _NIGHT_US // cadence_us), nights, cadence_us * 1e-6, steady)

    def year(self, nights: int) -> dict[str, Any]:
        """Return what a year of such visits takes: see `extrapolate`."""
        grown = int(self.taken.get("store_bytes", 0)) - int(self.taken.get("store_bytes_empty", 0))
        return extrapolate(self.rows, self.busy_s, grown, self.assumptions(nights))

    def worst(self, step: str) -> float | None:
        """Return the longest that a step took in any visit but the first; None when it never happened."""
        values = [getattr(row, step) for row in self.rows[1:] or self.rows]
        return max((value for value in values if math.isfinite(value)), default=None)

    def as_dict(self, nights: int) -> dict[str, Any]:
        """Return everything, for a script."""
        return {
            "name": self.name,
            **summary(self.rows),
            **self.taken,
            "busy_s": dict(self.busy_s),
            "year": self.year(nights),
        }


def read_run(directory: Path) -> Run:
    """Return the run whose data are in a directory.

    Raises
    ------
    FileNotFoundError
        When there is none.
    VisitLogError
        When its log is damaged.
    """
    file = directory / "survey" / NAME
    if not file.exists():
        raise FileNotFoundError(f"there is no {file}: `trapline survey run --directory {directory}` writes it")
    return Run(
        str(directory), list(read_rows(file)), load_taken(file.parent), _busy_s(directory / "journal" / "status")
    )


def text(runs: Sequence[Run], nights: int) -> Iterator[str]:
    """Yield runs for a person: each summed up and extrapolated; several also side by side."""
    for run in runs:
        yield f"{run.name}:"
        yield from ("  " + line for line in lines(summary(run.rows)))
        yield from ("  " + line for line in extrapolated(run.year(nights), run.assumptions(nights)))
    if len(runs) > 1:
        yield from _side_by_side(runs)


def differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all runs, by name, with the value in each."""
    settings = [run.taken.get("settings", {}) for run in runs]
    names = sorted({name for one in settings for name in one})
    values = [(name, [str(one.get(name, "-")) for one in settings]) for name in names]
    return [(name, found) for name, found in values if len(set(found)) > 1]


def side_by_side(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return what came of runs, by name, with the value in each: first the settings that differ."""
    found = [summary(run.rows) for run in runs]
    table = differences(runs)
    table += [(name, [_number(one.get(name)) for one in found]) for name in _COMPARED]
    table += [(step, [_number(one.get("seconds", {}).get(step)) for one in found]) for step in STEPS]
    worked = [one.get("worked", {}) for one in found]
    return table + [(f"{name} worked", [_number(one.get(name)) for one in worked]) for name in SERVICES]


def _side_by_side(runs: Sequence[Run]) -> Iterator[str]:
    table = side_by_side(runs)
    width = max(len(name) for name, _ in table)
    yield f"{'':{width}}" + "".join(f"{run.name[-18:]:>20}" for run in runs)
    for name, values in table:
        yield f"{name:{width}}" + "".join(f"{value[-18:]:>20}" for value in values)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _busy_s(status: Path) -> dict[str, float]:
    """Return the seconds that each service worked on records: the last report of each of its processes counts."""
    last: dict[tuple[str, str, int], float] = {}
    for directory in sorted(path for path in status.glob("*") if path.is_dir()):
        for _, frame in PartitionReader(directory).first_frames(0):
            header = decode_header(frame)
            if isinstance(header, Status):
                last[header.service, header.replica, header.pid] = header.busy_s
    busy: dict[str, float] = {}
    for (service, _, _), seconds in last.items():
        busy[service] = busy.get(service, 0.0) + seconds
    return busy
