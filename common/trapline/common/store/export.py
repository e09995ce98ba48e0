"""Whole tables, streamed in a total order: equal stores give equal files."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import asyncpg

from trapline.common.postgres.connection import Connection

_ROWS_AT_ONCE = 1000

OF_DATASET = "($1::text IS NULL OR dataset = (SELECT _id FROM dataset WHERE dataset.name = $1))"


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported under a name.

    Attributes
    ----------
    kinds
        By column, in order: text, time, integer, float or bool. Ids, lists and JSON are text.
    select, order
        Begin and end of its statement.
    table
        The columns' table, whose comments describe them.
    """

    kinds: Mapping[str, str]
    select: str
    order: str
    table: str

    @property
    def of_dataset(self) -> str:
        """Its statement without an order; ``$1`` names a dataset or is NULL."""
        return f"{self.select} WHERE {OF_DATASET}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.kinds)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of an export."""

    kinds: Mapping[str, str]
    rows: Sequence[asyncpg.Record]


def _export(columns: str, tables: str, order: str) -> Export:
    """Return an export; a column is given as ``[expression=]name[:kind]``, by default a float."""
    kinds, expressions = {}, []
    for column in columns.split():
        given, _, kind = column.partition(":")
        expression, name = given.partition("=")[0], given.rpartition("=")[2]
        kinds[name] = {"": "float", "int": "integer", "id": "text"}.get(kind, kind)
        expressions.append(f"{expression} AS {name}")
    select = f"SELECT {', '.join(expressions)} FROM {tables}"  # noqa: S608  constants below
    return Export(MappingProxyType(kinds), select, f"ORDER BY {order}", tables.split(maxsplit=1)[0])


EXPORTS: Mapping[str, Export] = MappingProxyType(
    {
        "objects": _export(
            "_id=object:id ra_deg dec_deg pos_err_ew_deg pos_err_ns_deg first_seen:time last_seen:time kind:int "
            "retired:bool parent:id name:text",
            "object",
            "_id",
        ),
        "lightcurves": _export(
            "point.object=object:id point.t=t:time point.band=band:text flux_int flux_int_err flux_peak flux_peak_err "
            "image.unit=unit:text snr point.ra_deg=ra_deg point.dec_deg=dec_deg point.pos_err_ew_deg=pos_err_ew_deg "
            "point.pos_err_ns_deg=pos_err_ns_deg point.kind=kind:int link:int point.flags=flags:int deruiter n:int v "
            "eta image:id source:id point._id=point:id",
            "measurement AS point LEFT JOIN image ON image._id = point.image",
            "point.object, point.t, point._id",
        ),
        "transients": _export(
            "_id=transient:id object:id image:id t:time kind:text alert_type:text role:text ra_deg dec_deg "
            "pos_err_ew_deg pos_err_ns_deg band:text flux_peak flux_peak_err unit:text significance reason:text",
            "transient",
            "t, _id",
        ),
        "triage": _export(
            "_id=verdict_id:id transient:id object:id t:time verdict:text note:text person:text",
            "triage",
            "t, _id",
        ),
        "images": _export(
            "_id=image:id t:time exposure_s instrument:text band:text freq_hz bandwidth_hz filter:text stokes:text "
            "unit:text noise nx:int ny:int centre_ra_deg centre_dec_deg radius_deg beam_major_deg beam_minor_deg "
            "beam_pa_deg role:text rejected:bool reasons:text flags:text origin:text",
            "image",
            "t, _id",
        ),
    }
)


def export_named(what: str) -> Export:
    """Return an export by name, or raise `ValueError` that says which there are."""
    if what not in EXPORTS:
        raise ValueError(f"there is no export of {what!r}; there are {', '.join(EXPORTS)}")
    return EXPORTS[what]


async def export(con: Connection, what: str, dataset: str | None = None) -> AsyncIterator[asyncpg.Record]:
    """Yield the rows of an export, of one dataset or of all, in the order of `EXPORTS[what].columns`.

    Ids are UUIDs, times are aware, absent values None, JSON is text. Rows come from a cursor, which sees the store
    as it was at the start: memory does not grow with their number, and writers are not held up.

    Raises
    ------
    ValueError
        When there is no export of this name.
    """
    wanted = export_named(what)
    async with con.transaction(readonly=True):
        async for row in con.cursor(f"{wanted.of_dataset} {wanted.order}", dataset, prefetch=_ROWS_AT_ONCE):
            yield row


async def batches(con: Connection, what: str, dataset: str | None, rows: int) -> AsyncGenerator[Batch]:
    """Yield an export in batches of at most `rows` rows, as it was at the start; none when it is empty.

    Raises
    ------
    ValueError
        When there is no export of this name, or `rows` is not above 0.
    """
    if rows < 1:
        raise ValueError(f"batches of {rows} rows: it must be above 0")
    kinds = export_named(what).kinds
    batch: list[asyncpg.Record] = []
    async for row in export(con, what, dataset):
        batch.append(row)
        if len(batch) >= rows:
            yield Batch(kinds, batch)
            batch = []
    if batch:
        yield Batch(kinds, batch)


def plain_text(value: Any) -> str:
    """Return a value of a text column as text: ids in their usual form, a list joined by commas, JSON as it is."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
