"""The points of a record that can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.schemas.columns import Kind, Link
from trapline.schemas.image import Band, Image
from trapline.schemas.lightcurves import POINTS, Lightcurves
from trapline.schemas.message import Message

Columns = Mapping[str, npt.NDArray[Any]]
Bool = npt.NDArray[np.bool_]

# Squares of what lies outside overflow.
_LARGEST = 1e70
_SMALLEST = 1e-70


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one record, with what they have in common."""

    header: Lightcurves
    image: Image
    band: Band
    t_us: int
    columns: Columns

    @property
    def key(self) -> tuple[str, str]:
        """Name of the band, and Stokes parameter."""
        return self.band.name, self.image.stokes or ""

    def take(self, rows: npt.NDArray[np.intp]) -> Points:
        """Return some of them."""
        return replace(self, columns={name: column[rows] for name, column in self.columns.items()})


def judgeable(record: Message[Lightcurves]) -> Points | None:
    """Return the points that rules may see, or None when there are none.

    Late records, values measured back in time, children of forks and values that were not measured are left out.

    Raises
    ------
    ValueError
        When rows have no image with a start and a band.
    SchemaError
        When a column is missing or of the wrong type.
    """
    image = record.header.image
    if not POINTS.check(record.arrays) or record.header.late:
        return None
    if image is None or image.t_start_us is None or image.band is None:
        raise ValueError(f"record {record.header.id.hex()} has points, and no image with a start and a band")
    columns: Columns = POINTS.select(record.arrays)
    points = Points(record.header, image, image.band, image.t_start_us, columns)
    return points.take(np.nonzero(_measured(columns))[0])


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


def _measured(columns: Columns) -> Bool:
    flux, flux_err = columns["flux_int"], columns["flux_int_err"]
    with np.errstate(invalid="ignore"):
        known = (np.abs(flux) < _LARGEST) & (flux_err > _SMALLEST) & (flux_err < _LARGEST)
    return np.asarray(known & (columns["kind"] != Kind.BACKFILL) & (columns["link"] != Link.FORKED))
