"""What a lightcurve is made of: an object, its ancestors, its bands, and its points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from trapline.common.ids import text_id
from trapline.common.postgres.connection import Connection
from trapline.common.store.columns import Array, Columns
from trapline.common.store.measurements import read_measurements
from trapline.schemas.columns import array_to_ids

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IDS = ("object", "image", "source", "point")


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of observation time: from `since` up to but not including `until`; None leaves it open."""

    since: datetime | None = None
    until: datetime | None = None

    def bounds(self) -> tuple[datetime, datetime]:
        """Return both ends, far away where open."""
        return self.since or datetime.min.replace(tzinfo=UTC), self.until or datetime.max.replace(tzinfo=UTC)


ALWAYS = Window()


class UnknownBandError(LookupError):
    """Rows are in a band that was not named."""


@dataclass(frozen=True, slots=True)
class Lightcurve:
    """Points of one object, and bins of them, in the order of time.

    Attributes
    ----------
    object_id
        Whose lightcurve this is. Rows of another `object` were inherited from an ancestor, before it was split.
    bands, units
        Names of the bands, and the unit of the fluxes in each; None where no image said it.
    columns
        By the names of `POINT_TYPES`, n rows each; NaN means not measured. Of a bin `t` is its start, `flux_int` the
        weighted mean, `kind` forced when all of it was, and what only a point has is NaN or zeros. Also `width_s` (of a
        bin; 0 for a point), `flux_min`, `flux_max`, `chi2`, `n_points` and `n_forced` (in a bin).
    """

    object_id: bytes
    bands: Sequence[str]
    units: Sequence[str | None]
    columns: Columns

    def __len__(self) -> int:
        return len(self.columns["t"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each point as values by column, with the band's name and its unit: ids and times as Python has them."""
        names = [name for name in self.columns if name not in {"t", "band", *_IDS}]
        plain = {name: self.columns[name].tolist() for name in names}
        ids = {name: [UUID(bytes=i) for i in array_to_ids(self.columns[name])] for name in _IDS}
        for row in range(len(self)):
            band = self.columns["band"][row]
            yield {
                "t": _EPOCH + timedelta(microseconds=int(self.columns["t"][row])),
                "band": self.bands[band],
                "unit": self.units[band],
                **{name: values[row] for name, values in (plain | ids).items()},
            }


_SERIES = """
WITH RECURSIVE line AS (
    SELECT _id, parent FROM object WHERE _id = $1
    UNION
    SELECT object._id, object.parent FROM object JOIN line ON object._id = line.parent
)
SELECT line._id AS object, object_state.band, object_state.unit, object_state.n
FROM line LEFT JOIN object_state ON object_state.object = line._id
ORDER BY band
"""


@dataclass(frozen=True, slots=True)
class Series:
    """What a lightcurve is made of: an object and its ancestors, and the bands in which they were measured."""

    object_id: bytes
    objects: Sequence[UUID]
    units: Mapping[str, str | None]
    n_points: Mapping[str, int]
    """points of the object by band, inherited ones included"""

    @property
    def bands(self) -> list[str]:
        """Names of the bands, sorted."""
        return sorted(self.units)


async def find_series(con: Connection, object_id: bytes, band: str | None = None) -> Series:
    """Return an object's ancestors and bands.

    Raises
    ------
    LookupError
        When no object has this id, or it has no points in this band: the text says which bands it has.
    """
    rows = await con.fetch(_SERIES, UUID(bytes=object_id))
    if not rows:
        raise LookupError(f"no object {text_id(object_id)} is stored; `trapline cone RA DEC RADIUS` finds objects")
    series = _series(object_id, rows)
    if band is not None and band not in series.units:
        point = "SELECT 1 FROM measurement WHERE object = ANY($1) AND band = $2 LIMIT 1"
        if not await con.fetchval(point, series.objects, band):
            known = ", ".join(series.bands) or "none"
            raise LookupError(f"object {text_id(object_id)} has no points in band {band!r}; its bands are {known}")
    return series


def _series(object_id: bytes, rows: Sequence[asyncpg.Record]) -> Series:
    with_state = [row for row in rows if row["band"] is not None]
    own = {row["band"]: row["n"] for row in with_state if row["object"].bytes == object_id}
    units = {row["band"]: row["unit"] for row in with_state if row["unit"] is not None}
    return Series(
        object_id,
        list(dict.fromkeys(row["object"] for row in rows)),
        {row["band"]: units.get(row["band"]) for row in with_state},
        own,
    )


async def all_bands(con: Connection, series: Series) -> list[str]:
    """Return the bands of an object's points, also of those without statistics: this reads them all."""
    rows = await con.fetch("SELECT DISTINCT band FROM measurement WHERE object = ANY($1)", series.objects)
    return sorted({*series.bands, *(row["band"] for row in rows)})


async def read_points(
    con: Connection, series: Series, bands: Sequence[str], band: str | None, window: Window
) -> dict[str, Array]:
    """Return the points of an object as columns of `POINT_TYPES`, in the order of time.

    Raises
    ------
    UnknownBandError
        When a point is in none of `bands`.
    """
    columns = await read_measurements(con, series.objects, bands, band, window.bounds())
    columns["band"] = known(columns["band"])
    return columns


def known(band: Array) -> Array:
    """Return the numbers of bands from 0, of what the server counts from 1; or raise `UnknownBandError` for its 0."""
    if not band.all():
        raise UnknownBandError
    return band - np.int16(1)
