"""Whole tables, streamed in a total order: equal stores give equal files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from trapline.common.postgres.connection import Connection

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported under a name: the columns' names, and the statement; its ``$1`` names a dataset or is NULL."""

    columns: tuple[str, ...]
    query: str


def _export(columns: str, tables: str, order: str) -> Export:
    """Return an export; a column is given as ``name`` or as ``expression=name``."""
    pairs = [(c.partition("=")[0], c.rpartition("=")[2]) for c in columns.split()]
    selected = ", ".join(f"{expression} AS {name}" for expression, name in pairs)
    chosen = "($1::text IS NULL OR dataset = (SELECT _id FROM dataset WHERE dataset.name = $1))"
    query = f"SELECT {selected} FROM {tables} WHERE {chosen} ORDER BY {order}"  # noqa: S608  constants below
    return Export(tuple(name for _, name in pairs), query)


EXPORTS: Mapping[str, Export] = MappingProxyType(
    {
        "objects": _export(
            "_id=object ra_deg dec_deg pos_err_ew_deg pos_err_ns_deg first_seen last_seen kind retired parent name",
            "object",
            "_id",
        ),
        "lightcurves": _export(
            "point.object=object point.t=t point.band=band flux_int flux_int_err flux_peak flux_peak_err "
            "image.unit=unit snr point.ra_deg=ra_deg point.dec_deg=dec_deg point.pos_err_ew_deg=pos_err_ew_deg "
            "point.pos_err_ns_deg=pos_err_ns_deg point.kind=kind link point.flags=flags deruiter n v eta image source "
            "point._id=point",
            "point LEFT JOIN image ON image._id = point.image",
            "point.object, point.t, point._id",
        ),
        "transients": _export(
            "_id=transient object image t kind alert_type role ra_deg dec_deg pos_err_ew_deg pos_err_ns_deg band "
            "flux_peak flux_peak_err unit significance reason",
            "transient",
            "t, _id",
        ),
        "triage": _export(
            "_id=verdict_id transient object t verdict note person",
            "triage",
            "t, _id",
        ),
        "images": _export(
            "_id=image t exposure_s instrument band freq_hz bandwidth_hz filter stokes unit noise nx ny centre_ra_deg "
            "centre_dec_deg radius_deg beam_major_deg beam_minor_deg beam_pa_deg role rejected reasons flags origin",
            "image",
            "t, _id",
        ),
    }
)


async def export(con: Connection, what: str, dataset: str | None = None) -> AsyncIterator[tuple[Any, ...]]:
    """Yield the rows of an export, of one dataset or of all, in the order of `EXPORTS[what].columns`.

    Ids are UUIDs, times are aware, absent values None, JSON is text. Rows come from a cursor, which sees the store
    as it was at the start: memory does not grow with their number, and writers are not held up.

    Raises
    ------
    ValueError
        When there is no export of this name.
    """
    if what not in EXPORTS:
        raise ValueError(f"there is no export of {what!r}; there are {', '.join(EXPORTS)}")
    async with con.transaction(readonly=True):
        async for row in con.cursor(EXPORTS[what].query, dataset, prefetch=_ROWS_AT_ONCE):
            yield tuple(row)
