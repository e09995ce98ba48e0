"""`survey`: visits of one field with history, from detections in to all rows committed, against LSST's `lsst-dax-apdb`.

Both keep the same visits on the same durable server: sources that vary, of which nine in ten are detected, transients,
and forced measurements of what is known and was not detected. They take turns in blocks of visits. Ours is the whole
mesh: a visit is timed from its first record until associator, finder and dumper are done with all that came of it, and
the look-up of objects and history in memory is added. Theirs is the calls that an alert pipeline makes: newest objects,
history of detections and of forced measurements, store. Matching, forced photometry and the making of tables cost them
nothing: they are told. The first visit of each block, when our survey has just started, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.harness import Comparison, InvalidRunError, Note, Size, Target
from bench.lsst import PACKAGES, Opponent, opponent
from bench.meshes import running_mesh, running_service
from bench.opponents import opponent_python
from trapline.common.commands.survey import mesh_tables
from trapline.common.config.mesh import load_config
from trapline.common.sky import from_tangent
from trapline.common.testing.postgres import empty_database, fresh_database, temporary_cluster
from trapline.survey.config import SurveyConfig
from trapline.survey.detections import Truth, flux_at
from trapline.survey.score import things
from trapline.survey.visiting import seen_in
from trapline.survey.visitlog import NAME, VisitRow, read_rows
from trapline.survey.visits import visit_of

_FASTER = Target("<=", 1 / 20)
_FLAT = Target("<=", 1.1)
_BEFORE_STORED = Target("<=", 1.0)
_ENDS = 20
_BLOCK_S = 1800.0
_ROW = np.dtype([("thing", "i8"), *((name, "f8") for name in ("ra_deg", "dec_deg", "err_deg", "flux_njy",
                                                              "flux_err_njy", "x", "y"))])  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Load:
    """Visits of a field: how many each of both does, and after how many they take turns."""

    detections: int
    visits: int
    theirs: int
    block: int

    @property
    def config(self) -> SurveyConfig:
        """The survey: no noise detections, since each would be an object more in every later visit."""
        chosen = {"variables": self.detections / 0.9, "detection_fraction": 0.9, "noise_detections": 0.0}
        return SurveyConfig(visits=self.visits, transients=max(5.0, self.detections / 500), **chosen)

    def ends_of_blocks(self) -> list[int]:
        """Return where they take turns; what they do not do is our last block."""
        return sorted({*range(self.block, self.theirs + 1, self.block), self.theirs, self.visits})


_LOADS: dict[Size, tuple[_Load, ...]] = {
    "small": (_Load(300, 16, 16, 8),),
    "full": (_Load(1000, 200, 100, 25), _Load(10_000, 200, 40, 10)),
}


def survey(size: Size) -> list[Comparison]:
    """Compare seconds per visit with theirs, the last visits with the first, and alerts with rows."""
    python = opponent_python(PACKAGES)
    with temporary_cluster(durable=True) as cluster, fresh_database(cluster):
        return [comparison for load in _LOADS[size] for comparison in _compare(load, *_measured(load, python, cluster))]


def _measured(load: _Load, python: Path, cluster: Any) -> tuple[list[VisitRow], list[dict[str, Any]]]:
    """Return what each visit took both of us."""
    config = load.config
    visit = visit_of(config, 0)
    circle = (visit.ra_deg, visit.dec_deg, config.field_deg / math.sqrt(2))
    theirs: list[dict[str, Any]] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
        ours = _Ours(config, directory, stack.enter_context(fresh_database(cluster)))
        other = stack.enter_context(opponent(python, stack.enter_context(empty_database(cluster)), circle, directory))
        stack.enter_context(running_mesh(directory, ours.tables()))
        visits = _TheirVisits(config, other, directory / "visit.npz")
        for number, end in enumerate(load.ends_of_blocks()):
            turns = [
                lambda end=end: ours.visit_until(end),
                lambda end=end: theirs.extend(visits.until(min(end, load.theirs))),
            ]
            for turn in turns if number % 2 else reversed(turns):
                turn()
        return ours.rows(), theirs


@dataclass(slots=True)
class _Ours:
    """A mesh that runs, and the survey beside it, which comes for each block."""

    config: SurveyConfig
    directory: Path
    dsn: str

    def tables(self, visits: int = 1, replicas: int = 0) -> dict[str, dict[str, Any]]:
        """Return the settings of the mesh and of the survey."""
        survey_table = self.config.model_dump(mode="json", exclude_unset=True)
        return {
            **mesh_tables(self.directory, load_config(survey=survey_table)),
            "database": {"dsn": self.dsn},
            "survey": {**survey_table, "visits": visits, "replicas": replicas},
        }

    def visit_until(self, end: int) -> None:
        """Do visits up to a number."""
        place = self.directory / "survey-process"
        with running_service("trapline.survey", place, self.tables(end, 1)) as child:
            child.process.wait(_BLOCK_S)
            if child.process.returncode or len(self.rows()) != end:
                text = (place / "output.log").read_text(errors="replace").strip()
                raise InvalidRunError(f"the survey ended after {len(self.rows())} of {end} visits: {text[-500:]}")

    def rows(self) -> list[VisitRow]:
        """Return the visits so far."""
        path = self.directory / "survey" / NAME
        return list(read_rows(path)) if path.exists() else []


@dataclass(slots=True)
class _TheirVisits:
    """The same visits for them: what is known of the field grows with what was detected."""

    config: SurveyConfig
    other: Opponent
    path: Path
    done: int = 0
    known: dict[int, Any] = field(default_factory=dict)

    def until(self, end: int) -> Iterator[dict[str, Any]]:
        """Let them do visits up to a number; yield what each took."""
        for number in range(self.done, end):
            found = self._found(number)
            forced = self._forced(number, set(found["thing"].tolist()))
            np.savez(self.path, found=found, forced=forced)
            self.known.update(zip(found["thing"].tolist(), found, strict=True))
            took = self.other.visit(number, visit_of(self.config, number).t_us, self.path)
            yield {**took, "detections": len(found), "forced": len(forced)}
            self.done = number + 1

    def _found(self, number: int) -> Any:
        visit, parts = visit_of(self.config, number), []
        for tile, _ in seen_in(self.config, number, "default"):
            seen = tile.found
            rows = np.zeros(len(seen), _ROW)
            rows["thing"] = things(seen)
            noise = seen["truth"] == Truth.NOISE
            rows["thing"][noise] = -1 - number * 1_000_000 - np.arange(noise.sum())
            rows["ra_deg"], rows["dec_deg"] = from_tangent(
                seen["east_deg"], seen["north_deg"], visit.ra_deg, visit.dec_deg
            )
            rows["err_deg"], rows["flux_njy"] = seen["err_deg"], seen["seen_njy"]
            rows["x"], rows["y"] = tile.x, tile.y
            parts.append(rows)
        found = np.concatenate(parts)
        found["flux_err_njy"] = self.config.flux_err_njy
        return found

    def _forced(self, number: int, seen: set[int]) -> Any:
        missed = [row for thing, row in self.known.items() if thing not in seen]
        rows = np.array(missed, _ROW) if missed else np.zeros(0, _ROW)
        rows["flux_njy"] = flux_at(self.config, visit_of(self.config, number), rows["ra_deg"], rows["dec_deg"])
        return rows


def _compare(load: _Load, rows: Sequence[VisitRow], theirs: Sequence[dict[str, Any]]) -> Iterator[Comparison]:
    if wrong := [row.visit for row in rows if row.lost]:
        raise InvalidRunError(f"visits {wrong} were not stored: nothing to compare")
    begins = {0, *load.ends_of_blocks()}
    warm = [row for row in rows if row.visit not in begins]
    name = f"{load.detections:,} detections"
    both = [row for row in warm if row.visit < load.theirs][-min(_ENDS, load.theirs // 2) :]
    case = f"{name}, visits {both[0].visit} to {both[-1].visit}"
    notes = _notes(rows, theirs, both)
    baseline = [_seconds(theirs[row.visit]) for row in both]
    yield Comparison(case, "s/visit", [_ours_s(row) for row in both], baseline, _FASTER, notes)
    ends = min(_ENDS, len(warm) // 2)
    last, first = ([_ours_s(row) for row in part] for part in (warm[-ends:], warm[:ends]))
    yield Comparison(f"{name}, last {ends} of {len(rows)} visits against first", "s/visit", last, first, _FLAT)
    told = [row for row in warm if row.alerts]
    alerts, stored = [row.alert_s for row in told], [row.store_s for row in told]
    yield Comparison(f"{name}, last alert against rows committed", "s/visit", alerts, stored, _BEFORE_STORED)


def _notes(rows: Sequence[VisitRow], theirs: Sequence[dict[str, Any]], both: Sequence[VisitRow]) -> dict[str, Note]:
    last, other = both[-1], theirs[both[-1].visit]
    return {
        "visits that they did": len(theirs),
        "times faster": float(
            np.median([_seconds(theirs[row.visit]) for row in both]) / np.median([_ours_s(row) for row in both])
        ),
        f"visit {last.visit}, ours": f"{last.detections} detections, {last.forced} forced, {last.objects} objects with "
        f"{last.history} points of history; {_steps(asdict(last))}",
        f"visit {last.visit}, theirs": f"{other['detections']} detections, {other['forced']} forced, "
        f"{other['objects']} objects with {other['history']} points of history; {_steps(other)}",
        "points stored at the end, ours": rows[-1].points,
    }


def _steps(took: dict[str, Any]) -> str:
    return ", ".join(f"{name.removesuffix('_s')} {took[name]:.3f} s" for name in ("objects_s", "history_s", "store_s"))


def _ours_s(row: VisitRow) -> float:
    return row.objects_s + row.history_s + row.store_s


def _seconds(took: dict[str, Any]) -> float:
    return float(took["objects_s"] + took["history_s"] + took["store_s"])
