"""Look each new source up in a catalogue file, and say what it may be, or that nothing is known there.

CATALOGUE=my_catalogue.csv trapline plugin deploy/plugins/cross_match.py
trapline tail matches

The file has a header line with at least ``name``, ``ra_deg`` and ``dec_deg`` (ICRS, degrees); a column ``kind`` is
passed on. It is read again when it changes. A counterpart is the nearest entry within three sigma of the position, and
at least `LEAST_RADIUS_DEG`, at most `LARGEST_RADIUS_DEG`.
"""

import csv
import os
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from scipy.spatial import cKDTree

from trapline.common.sky import unit_vectors
from trapline.plugin import Event, Id, count, doc, publishes, subscribes

FILE = Path(os.environ.get("CATALOGUE", "catalogue.csv"))
LEAST_RADIUS_DEG = 5.0 / 3600
LARGEST_RADIUS_DEG = 1.0
SIGMAS = 3.0


class Match(msgspec.Struct):
    """What stands at the place of an event in the catalogue."""

    event_id: Id
    ra_deg: float
    dec_deg: float
    name: Annotated[str | None, doc("the counterpart; absent when there is none")] = None
    kind: Annotated[str, doc("what the catalogue says that it is")] = ""
    separation_deg: Annotated[float | None, doc("its distance from the event", "deg")] = None
    radius_deg: Annotated[float, doc("within which was looked", "deg")] = 0.0
    others: Annotated[int, doc("further entries within that radius: how far the match can be believed")] = 0


class Catalogue(NamedTuple):
    """A catalogue in memory, and when its file was written."""

    written_ns: int
    names: list[str]
    kinds: list[str]
    tree: cKDTree


def read(path):
    """Return the catalogue in a file; ValueError with its line when one cannot be read."""
    names, kinds, positions = [], [], []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        missing = {"name", "ra_deg", "dec_deg"} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path}:1: the header line lacks {', '.join(sorted(missing))}")
        for row in rows:
            try:
                positions.append((float(row["ra_deg"]), float(row["dec_deg"])))
            except (TypeError, ValueError):
                raise ValueError(f"{path}:{rows.line_num}: ra_deg and dec_deg must be degrees") from None
            names.append(row["name"])
            kinds.append(row.get("kind") or "")
    ra, dec = np.array(positions, float).reshape(-1, 2).T
    return Catalogue(path.stat().st_mtime_ns, names, kinds, cKDTree(unit_vectors(ra, dec)))


catalogue = read(FILE)


@subscribes("transients", kind="new_source")
@publishes("matches", Match)
def match(event: Event):
    """Return the counterpart of one event."""
    if event.alert_type != "initial":
        return None
    refresh()
    sigma = np.hypot(event.pos_err_ew_deg, event.pos_err_ns_deg)
    radius = float(np.clip(SIGMAS * sigma, LEAST_RADIUS_DEG, LARGEST_RADIUS_DEG))
    place = unit_vectors(event.ra_deg, event.dec_deg)
    near = catalogue.tree.query_ball_point(place, chord(radius))
    count("with_counterpart" if near else "without_counterpart")
    found = Match(event.event_id, event.ra_deg, event.dec_deg, radius_deg=radius)
    if near:
        distances = np.linalg.norm(catalogue.tree.data[near] - place, axis=1)
        best = int(np.argmin(distances))
        found.name, found.kind = catalogue.names[near[best]], catalogue.kinds[near[best]]
        found.separation_deg = float(np.degrees(2 * np.arcsin(distances[best] / 2)))
        found.others = len(near) - 1
    return found


def chord(angle_deg):
    """Return the distance of two unit vectors that are so far apart on the sky."""
    return 2 * np.sin(np.radians(angle_deg) / 2)


def refresh():
    """Read the file again when it was written since; a file that cannot be read leaves what was known."""
    global catalogue  # noqa: PLW0603  what the file says is the same for every call
    try:
        if FILE.stat().st_mtime_ns != catalogue.written_ns:
            catalogue = read(FILE)
            count("catalogue_read_again")
    except (OSError, ValueError):
        count("catalogue_unreadable")
