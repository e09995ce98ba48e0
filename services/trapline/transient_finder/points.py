"""The points of a record, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Kind, Link
from trapline.schemas.image import Band, Image
from trapline.schemas.lightcurves import NEIGHBOURS, POINTS, Lightcurves
from trapline.schemas.message import Message

Columns = Mapping[str, npt.NDArray[Any]]
Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

# Squares of what lies outside overflow.
_LARGEST = 1e70
_SMALLEST = 1e-70
_PLACE = ("ra_deg", "dec_deg", "flux_peak")
_BRIGHT_ROWS = 64  # brightest blind points of an image that are remembered for the sake of their side lobes


@dataclass(frozen=True, slots=True)
class Context:
    """What all points of an image have in common."""

    image: Image
    band: Band
    t_us: int
    record_id: bytes
    dataset: str
    trace: str | None
    bright: tuple[tuple[float, float, float], ...] = ()
    """(ra_deg, dec_deg, flux_peak) of its brightest blind points"""

    @property
    def key(self) -> tuple[str, str]:
        """Name of the band, and Stokes parameter."""
        return self.band.name, self.image.stokes or ""


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one image."""

    context: Context
    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["object_id"])

    def take(self, rows: npt.NDArray[Any]) -> Points:
        """Return some of them, by number or by mask."""
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()})

    @classmethod
    def joined(cls, context: Context, parts: Sequence[Columns]) -> Points:
        """Return points of one image as one."""
        return cls(context, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def points_of(record: Message[Lightcurves]) -> Points | None:
    """Return all rows of a record; None when it has no image, as a command has none.

    Raises
    ------
    ValueError
        When rows have no image with a start and a band.
    SchemaError
        When a column is missing or of the wrong type.
    """
    header = record.header
    image = header.image
    rows = POINTS.check(record.arrays)
    if image is None or image.t_start_us is None or image.band is None:
        if rows:
            raise ValueError(f"record {header.id.hex()} has points, and no image with a start and a band")
        return None
    columns = dict(POINTS.select(record.arrays))
    beside = NEIGHBOURS.select(record.arrays) if NEIGHBOURS.check(record.arrays) else {}
    bright = _brightest(columns, beside)
    context = Context(image, image.band, image.t_start_us, header.id, header.dataset, header.trace, bright)
    return Points(context, columns)


def measured(columns: Columns) -> Bool:
    """Return which rows were measured: finite fluxes with an error that can be squared."""
    flux, flux_err = columns["flux_int"], columns["flux_int_err"]
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(flux) < _LARGEST) & (flux_err > _SMALLEST) & (flux_err < _LARGEST))


def blind(columns: Columns) -> Bool:
    """Return which rows are blind detections that belong to one object: children of forks do not count."""
    return np.asarray((columns["kind"] == Kind.BLIND) & (columns["link"] != Link.FORKED))


def once_each(points: Points) -> Iterator[Points]:
    """Yield the points in parts in which each object has one, in the order of the rows of each object."""
    ids = np.ascontiguousarray(points.columns["object_id"]).view("V16").ravel()
    _, object_, count = np.unique(ids, return_inverse=True, return_counts=True)
    if count.max(initial=1) == 1:
        yield points
        return
    order = np.argsort(object_, kind="stable")
    first = np.cumsum(count) - count
    turn = np.empty(len(ids), np.intp)
    turn[order] = np.arange(len(ids)) - np.repeat(first, count)
    for number in range(int(count.max())):
        yield points.take(np.nonzero(turn == number)[0])


def _brightest(columns: Columns, beside: Columns) -> tuple[tuple[float, float, float], ...]:
    """Return (ra_deg, dec_deg, flux_peak) of the brightest blind points, and of sources beside this region."""
    own = np.nonzero(blind(columns) & np.isfinite(columns["flux_peak"]))[0]
    values = {name: columns[name][own] for name in _PLACE}
    if beside:
        values = {name: np.concatenate([column, beside[name]]) for name, column in values.items()}
    peak = values["flux_peak"]
    rows = np.arange(len(peak))
    if len(rows) > _BRIGHT_ROWS:
        rows = np.sort(np.argsort(-peak, kind="stable")[:_BRIGHT_ROWS])
    return tuple(zip(*(values[name][rows].tolist() for name in _PLACE), strict=True))
