"""Keeps visits in LSST's `lsst-dax-apdb`, as its alert pipeline would: a program for an environment of its own.

It is run by a Python that has the package, with the URL of an empty database and the circle of the field, and takes
one line of JSON a visit: where its detections are (.npz). What belongs to which object is told, so that no time is lost
with matching; only the calls of the package are timed, not the making of the tables it is given. It answers with the
seconds of each call and the rows that were read.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import numpy as np

_BAND = "r"
_MJD_1970 = 40_587.0
_DAY_US = 86_400_000_000

pandas: Any = importlib.import_module("pandas")
sphgeom: Any = importlib.import_module("lsst.sphgeom")
apdb_sql: Any = importlib.import_module("lsst.dax.apdb.sql")
astropy_time: Any = importlib.import_module("astropy.time")


class Opponent:
    """A database of theirs with one field, and what is known of each object."""

    def __init__(self, url: str, field: tuple[float, float, float]) -> None:
        # The table of newest versions is what their documentation recommends for reading: the quickest there is.
        config = apdb_sql.ApdbSql.init_database(url, dia_object_index="last_object_table")
        self._apdb = apdb_sql.ApdbSql(config)
        centre = sphgeom.UnitVector3d(sphgeom.LonLat.fromDegrees(*field[:2]))
        self._region = sphgeom.Circle(centre, sphgeom.Angle.fromDegrees(field[2]))
        self._objects: dict[int, int] = {}
        self._first_mjd: dict[int, float] = {}
        self._times_seen: dict[int, int] = {}
        self._sources = 0

    def visit(self, number: int, t_us: int, path: str) -> dict[str, float]:
        """Do a visit: read objects and history, store new versions, sources and forced sources."""
        with np.load(path) as rows:
            found, forced = rows["found"], rows["forced"]
        when = astropy_time.Time(_MJD_1970 + t_us / _DAY_US, format="mjd", scale="tai")
        steps = [time.perf_counter()]
        objects = self._apdb.getDiaObjects(self._region)
        steps.append(time.perf_counter())
        ids = objects["diaObjectId"].tolist()
        history = [read(self._region, ids, when) for read in (self._apdb.getDiaSources, self._apdb.getDiaForcedSources)]
        steps.append(time.perf_counter())
        tables = self._tables(number, float(when.mjd), found, forced)
        begun = time.perf_counter()
        self._apdb.store(when, *tables)
        stored = time.perf_counter()
        return {
            "objects_s": steps[1] - steps[0],
            "history_s": steps[2] - steps[1],
            "store_s": stored - begun,
            "objects": len(objects),
            "history": sum(map(len, history)),
        }

    def _tables(self, visit: int, mjd: float, found: Any, forced: Any) -> tuple[Any, Any, Any]:
        ids = np.array([self._id(thing, mjd) for thing in found["thing"].tolist()], np.int64)
        place = {"visit": visit, "detector": 0, "midpointMjdTai": mjd, "timeProcessedMjdTai": mjd, "band": _BAND}
        source_ids = np.arange(self._sources, self._sources + len(found), dtype=np.int64) + 1
        self._sources += len(found)
        measured = {"ra": found["ra_deg"], "dec": found["dec_deg"]}
        errors = {"raErr": found["err_deg"], "decErr": found["err_deg"]}
        sources = {"diaSourceId": source_ids, "diaObjectId": ids, **place, **measured, **errors, "x": found["x"],
                   "y": found["y"], "psfFlux": found["flux_njy"], "psfFluxErr": found["flux_err_njy"],
                   "snr": found["flux_njy"] / found["flux_err_njy"], "psfNdata": 1, "trailNdata": 0,
                   "dipoleNdata": 0, "bboxSize": 10, "parentDiaSourceId": 0}  # fmt: skip
        flux = {f"{_BAND}_psfFluxMean": found["flux_njy"], f"{_BAND}_psfFluxMeanErr": found["flux_err_njy"]}
        n_flux = {f"{band}_psfFluxNdata": 0 for band in "ugrizy"}
        versions = {"diaObjectId": ids, **measured, **errors, "ra_dec_Cov": 0.0, **flux, **n_flux,
                    "lastDiaSourceMjdTai": mjd,
                    "nDiaSources": [self._times_seen[i] for i in ids.tolist()],
                    "firstDiaSourceMjdTai": [self._first_mjd[i] for i in ids.tolist()]}  # fmt: skip
        known = [self._objects[thing] for thing in forced["thing"].tolist()]
        fluxes = {"psfFlux": forced["flux_njy"], "psfFluxErr": forced["flux_err_njy"]}
        forced_ids = np.arange(len(forced), dtype=np.int64) + visit * 10_000_000
        where = {"ra": forced["ra_deg"], "dec": forced["dec_deg"]}
        again = {"diaForcedSourceId": forced_ids, "diaObjectId": known, **where, **place, **fluxes}
        return pandas.DataFrame(versions), pandas.DataFrame(sources), pandas.DataFrame(again) if len(forced) else None

    def _id(self, thing: int, mjd: float) -> int:
        """Return the object of a thing that is seen now; the first time it is a new one."""
        number = self._objects.setdefault(thing, len(self._objects) + 1)
        self._first_mjd.setdefault(number, mjd)
        self._times_seen[number] = self._times_seen.get(number, 0) + 1
        return number


def main() -> None:
    """Do visits as they are told on standard input, until that ends."""
    opponent = Opponent(sys.argv[1], (float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
    sys.stdout.write(json.dumps({"ready": True}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        told = json.loads(line)
        done = opponent.visit(told["visit"], told["t_us"], told["path"])
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
