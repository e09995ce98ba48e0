"""Pages of long lists: filtered, newest first or sorted by a column, each page from where the last one ended.

Ids begin with the observation time, so their order is that of time: a page costs the same however far back it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec

from trapline.common.postgres.connection import Connection
from trapline.common.store.order import Order, Sequence, Sort, flux, moment, number, sequence, words
from trapline.common.store.units import as_jansky, in_jansky

Row = dict[str, Any]


class Cone(msgspec.Struct, frozen=True):
    """A circle on the sky, ICRS degrees."""

    ra_deg: float
    dec_deg: float
    radius_deg: float


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What a list is narrowed to; None and empty leave it as it is. Each list takes those that it knows."""

    dataset: str | None = None
    cone: Cone | None = None
    band: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    v_min: float | None = None
    eta_min: float | None = None
    n_min: float | None = None
    flux_min: float | None = None
    flux_max: float | None = None
    flux_unit: str | None = None
    """of `flux_min` and `flux_max`: Jy, mJy, uJy or nJy; None for what each row is in"""
    significance_min: float | None = None
    alert_type: str | None = None
    role: str | None = None
    verdict: str | None = None
    rejected: bool | None = None
    object: UUID | None = None


class _List(msgspec.Struct, frozen=True):
    """A list: columns and tables, its key, the condition of each filter that it knows, and how it can be sorted."""

    columns: str
    tables: str
    key: str
    dataset: str
    filters: Mapping[str, str]
    sorts: Mapping[str, Sort]
    narrow: str = ""
    """the table that can be sorted by itself before it is joined to the other, and its letter"""

    def query(self, at: str = "", tables: str = "") -> str:
        by = f"{at} AS at, " if at else ""
        return f"SELECT {self.key} AS key, {by}{self.columns} FROM {tables or self.tables}"  # noqa: S608


_SPARE = 4
_FLUXES = ("flux_mean", "flux_mean_weighted", "flux_std", "flux_min", "flux_max")
_CONE = "q3c_radial_query({0}ra_deg, {0}dec_deg, $%d, $%d, $%d)"
_FLUX = "s.flux_mean_weighted"
_RANGES = {
    "band": "s.band = $%d",
    "v_min": "s.v >= $%d AND s.v <> 'NaN'",
    "eta_min": "s.eta >= $%d AND s.eta <> 'NaN'",
    "n_min": "s.n >= $%d",
    "flux_min": f"{_FLUX} >= $%d",
    "flux_max": f"{_FLUX} <= $%d",
}

LISTS: Mapping[str, _List] = MappingProxyType(
    {
        "objects": _List(
            "o._id AS object, o.ra_deg, o.dec_deg, o.pos_err_ew_deg, o.pos_err_ns_deg, "
            "o.first_seen, o.last_seen, o.kind, o.retired, o.parent, o.name, s.band, s.unit, s.n, s.n_blind, "
            "s.flux_mean, s.flux_mean_weighted, s.flux_std, s.flux_min, s.flux_max, s.v, s.eta",
            "object_state AS s JOIN object AS o ON o._id = s.object",
            "s._id",
            "o.dataset",
            {
                **_RANGES,
                "kind": "o.kind = $%d::text::smallint",
                "since": "o.last_seen >= $%d",
                "until": "o.first_seen < $%d",
                "cone": _CONE.format("o."),
                "object": "o._id = $%d",
            },
            {
                **{name: number(f"o.{name}") for name in ("ra_deg", "dec_deg", "kind")},
                **{name: moment(f"o.{name}") for name in ("first_seen", "last_seen")},
                **{name: number(f"s.{name}") for name in ("n", "n_blind", "v", "eta")},
                **{name: flux(f"s.{name}", "s.unit") for name in _FLUXES},
                "band": words("s.band"),
            },
            "object_state AS s",
        ),
        "transients": _List(
            "e._id AS transient, e.object, e.image, e.t, e.kind, e.alert_type, e.role, e.ra_deg, "
            "e.dec_deg, e.pos_err_ew_deg, e.pos_err_ns_deg, e.band, e.flux_peak, e.flux_peak_err, e.unit, "
            "e.significance, e.reason, said.verdict, said.note, said.person",
            "transient AS e LEFT JOIN LATERAL (SELECT verdict, note, person FROM triage WHERE transient = e._id "
            "ORDER BY t DESC LIMIT 1) AS said ON true",
            "e._id",
            "e.dataset",
            {
                "kind": "e.kind = $%d",
                "alert_type": "e.alert_type = $%d",
                "role": "e.role = $%d",
                "band": "e.band = $%d",
                "significance_min": "e.significance >= $%d",
                "since": "e.t >= $%d",
                "until": "e.t < $%d",
                "verdict": "coalesce(said.verdict, 'undecided') = $%d",
                "cone": "q3c_dist(e.ra_deg, e.dec_deg, $%d, $%d) <= $%d",
                "object": "e.object = $%d",
            },
            {
                "t": moment("e.t"),
                **{name: number(f"e.{name}") for name in ("significance", "ra_deg", "dec_deg")},
                "flux_peak": flux("e.flux_peak", "e.unit"),
                **{name: words(f"e.{name}") for name in ("kind", "band")},
                "verdict": words("said.verdict"),
            },
        ),
        "images": _List(
            "i._id AS image, i.t, i.exposure_s, i.instrument, i.band, i.freq_hz, i.bandwidth_hz, "
            "i.filter, i.stokes, i.unit, i.noise, i.nx, i.ny, i.centre_ra_deg, i.centre_dec_deg, i.radius_deg, "
            "i.beam_major_deg, i.beam_minor_deg, i.beam_pa_deg, i.role, i.rejected, i.reasons, i.flags, i.origin",
            "image AS i",
            "i._id",
            "i.dataset",
            {
                "band": "i.band = $%d",
                "role": "i.role = $%d",
                "rejected": "i.rejected = $%d",
                "since": "i.t >= $%d",
                "until": "i.t < $%d",
                "cone": _CONE.format("i.centre_"),
            },
            {
                "t": moment("i.t"),
                "noise": flux("i.noise", "i.unit"),
                **{name: number(f"i.{name}") for name in ("exposure_s", "nx", "centre_ra_deg", "centre_dec_deg")},
                "rejected": number("i.rejected::integer"),
                "band": words("i.band"),
            },
        ),
    }
)


async def page(
    con: Connection,
    what: str,
    filters: Filters,
    *,
    limit: int = 100,
    before: UUID | None = None,
    after: UUID | None = None,
    order: Order | None = None,
) -> list[Row]:
    """Return rows of a list, newest first, or as they are sorted.

    Parameters
    ----------
    con
        To read from.
    what
        A key of `LISTS`.
    filters
        What the list is narrowed to.
    limit
        The most rows.
    before
        Only rows behind the one with this ``key``, which are older: the next page.
    after
        Only rows ahead of the one with this ``key``, the nearest of them: the page before.
    order
        By which column; rows then have ``at``, what they are sorted by, which `Order.at` wants of the row that `before`
        or `after` names. A row whose value changes between two pages may be on both, or on none.

    Raises
    ------
    ValueError
        When a filter is not one of this list, or its numbers are none, or it cannot be sorted so.
    """
    listed = LISTS[what]
    arguments: list[Any] = []
    conditions = list(_conditions(listed, filters, arguments))
    way = sequence(listed.key, listed.sorts, order)
    conditions += [way.beyond(key, arguments, ahead=key is after) for key in (before, after) if key is not None]
    order_by = f"ORDER BY {way.clause(backwards=after is not None)} LIMIT"
    rows: list[Any] = []
    if first := _narrowed(listed, way, conditions, f"{order_by} {_SPARE * limit}"):
        rows = await con.fetch(f"{first} {order_by} {limit}", *arguments)
    if len(rows) < limit:
        query = f"{listed.query(way.at)} WHERE {' AND '.join(conditions) or 'true'} {order_by} {limit}"
        rows = await con.fetch(query, *arguments)
    found = [dict(row) for row in rows]
    return found[::-1] if after is not None else found


def _narrowed(listed: _List, way: Sequence, conditions: list[str], order_by: str) -> str:
    """Return the query of a sorted page that sorts one table and joins only what came first; empty where it cannot.

    It may find too few rows, where those that come first are of other datasets.
    """
    table, _, letter = listed.narrow.rpartition(" AS ")
    own = [condition for condition in conditions if f"{letter}." in condition]
    theirs = [condition for condition in conditions if f"{letter}." not in condition]
    others = [condition for condition in theirs if not condition.startswith(listed.dataset)]
    if not table or not way.at or f"{letter}." not in way.at or others:
        return ""
    inner = f"SELECT * FROM {listed.narrow} WHERE {' AND '.join(own) or 'true'} {order_by}"  # noqa: S608
    tables = listed.tables.replace(listed.narrow, f"({inner}) AS {letter}")
    return f"{listed.query(way.at, tables)} WHERE {' AND '.join(theirs) or 'true'}"


async def one(con: Connection, what: str, key: UUID) -> Row | None:
    """Return the row of a list with this key; None when there is none."""
    listed = LISTS[what]
    row = await con.fetchrow(f"{listed.query()} WHERE {listed.key} = $1", key)
    return None if row is None else dict(row)


def _conditions(listed: _List, filters: Filters, arguments: list[Any]) -> Iterator[str]:
    """Yield SQL conditions, and put what they refer to behind the arguments."""
    if filters.dataset is not None:
        arguments.append(filters.dataset)
        yield f"{listed.dataset} = (SELECT _id FROM dataset WHERE name = ${len(arguments)})"  # noqa: S608
    for name in Filters.__struct_fields__:
        value = getattr(filters, name)
        if value in (None, "") or name in ("dataset", "flux_unit"):
            continue
        if name not in listed.filters:
            raise ValueError(f"this list has no filter {name!r}; it has {', '.join(listed.filters)}")
        condition = listed.filters[name]
        values: tuple[Any, ...] = _cone_values(value) if isinstance(value, Cone) else (value,)
        if name in ("flux_min", "flux_max") and filters.flux_unit is not None:
            condition = condition.replace(_FLUX, in_jansky(_FLUX, "s.unit"))
            values = tuple(as_jansky(one, filters.flux_unit) for one in values)
        first = len(arguments) + 1
        arguments.extend(values)
        yield condition % tuple(range(first, first + len(values)))


def _cone_values(cone: Cone) -> tuple[float, float, float]:
    if not (math.isfinite(cone.ra_deg) and -90 <= cone.dec_deg <= 90):
        raise ValueError(
            f"({cone.ra_deg:g}, {cone.dec_deg:g}) is no position: RA in degrees, DEC from -90 to 90 degrees"
        )
    if not 0 < cone.radius_deg <= 180:
        raise ValueError(f"a radius of {cone.radius_deg:g} degrees: it must be above 0 and at most 180")
    return cone.ra_deg % 360, cone.dec_deg, cone.radius_deg
