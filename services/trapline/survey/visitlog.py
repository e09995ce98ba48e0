"""One line a visit: what was in it, what became of it, and how long each step took."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trapline.common.journal.epochs import replace_file

NAME = "visits.csv"
TAKEN = "taken.json"
SERVICES = ("associator", "transient_finder", "database_dumper")


class VisitLogError(ValueError):
    """A file that is no log of visits. The text names it, the line, and what would be right."""


@dataclass(frozen=True, slots=True)
class VisitRow:
    """A visit. Seconds are from the first record of the visit on, so that steps may overlap; NaN: did not happen.

    Attributes
    ----------
    objects
        Known objects in the field before the visit.
    history
        Points of these objects in the window of the history.
    objects_stored, history_stored
        The same as the store had them; 0 unless `history_from_store`.
    forced
        Forced points that came of the visit, also those back in time.
    versions
        States of objects that changed.
    points, transients_detected, transients_announced
        Totals since the first visit.
    find_s
        To make the detections: before the clock starts.
    objects_s, history_s
        To look up the latest objects of the field, and their history, in memory: on a clock of their own.
    objects_stored_s, history_stored_s
        To read the same from the store.
    publish_s, match_s, forced_s, alert_s, store_s
        Until the detections were published, matched, the forced photometry answered and folded, the last alert was in a
        reader's hands, and all rows were committed.
    associator_s, transient_finder_s, database_dumper_s
        How long each service worked on records since the visit before, as it last reported: it counts for the visit in
        which it is told.
    """

    visit: int
    t_us: int
    ra_deg: float
    dec_deg: float
    filter: str
    images: int
    detections: int
    bodies: int
    objects: int
    history: int
    objects_stored: int
    history_stored: int
    forced: int
    versions: int
    alerts: int
    again: int
    right: int
    joined: int
    duplicates: int
    late: int
    lost: int
    points: int
    transients_detected: int
    transients_announced: int
    find_s: float
    objects_s: float
    history_s: float
    objects_stored_s: float
    history_stored_s: float
    publish_s: float
    match_s: float
    forced_s: float
    alert_s: float
    store_s: float
    associator_s: float
    transient_finder_s: float
    database_dumper_s: float


_TYPES = {"int": int, "float": float, "str": str}


class VisitLog:
    """Appends rows to a file, each as a whole line."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        directory.mkdir(parents=True, exist_ok=True)
        self.rows = list(read_rows(self.path)) if self.path.exists() else []
        if self.path.exists():
            # Whoever was killed in the middle of a line did not write it.
            data = self.path.read_bytes()
            os.truncate(self.path, data.rfind(b"\n") + 1)

    def append(self, row: VisitRow) -> None:
        """Write a row; what a reader sees of the file ends with a whole line."""
        new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(VisitRow)])
            if new:
                writer.writeheader()
            writer.writerow(asdict(row))
        self.rows.append(row)


def read_rows(path: Path) -> Iterator[VisitRow]:
    """Yield the rows of a log; a last line that is cut is not there yet.

    Raises
    ------
    VisitLogError
        When a line is not what `VisitLog` writes.
    """
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1].splitlines()
    for number, values in enumerate(csv.DictReader(whole), 2):
        try:
            yield VisitRow(**{f.name: _TYPES[str(f.type)](values[f.name]) for f in fields(VisitRow)})
        except (KeyError, TypeError, ValueError) as error:
            raise VisitLogError(f"{path}, line {number}: {error}; it should be as `survey run` wrote it") from None


def save_taken(directory: Path, taken: Mapping[str, Any]) -> None:
    """Write what a run took besides its visits: sizes and counts of the store, and its settings."""
    directory.mkdir(parents=True, exist_ok=True)
    replace_file(directory / TAKEN, json.dumps(taken).encode())


def load_taken(directory: Path) -> dict[str, Any]:
    """Return what `save_taken` wrote; nothing when no run has ended yet.

    Raises
    ------
    VisitLogError
        When the file is damaged.
    """
    path = directory / TAKEN
    if not path.exists():
        return {}
    try:
        taken: dict[str, Any] = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise VisitLogError(f"{path}: {error}; remove it, and `survey run` writes it again") from None
    return taken
