"""Exports as files: CSV, Parquet, VOTable and FITS, written as the rows come."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from trapline.common.postgres.connection import Connection
from trapline.common.store.export import Batch, Export, batches, export_named, plain_text

FORMATS = ("csv", "parquet", "votable", "fits")

_ENDINGS: Mapping[str, str] = MappingProxyType(
    {".csv": "csv", ".parquet": "parquet", ".xml": "votable", ".vot": "votable", ".votable": "votable", ".fits": "fits"}
)
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Columns:
    """What a file says of its columns.

    Attributes
    ----------
    what
        Name of the export.
    kinds
        As in `Export`.
    descriptions
        By column, where the store has one.
    rows, widths
        Number of rows, and of bytes of the longest text of each column; 0 where they were not counted.
    """

    what: str
    kinds: Mapping[str, str]
    descriptions: Mapping[str, str]
    rows: int
    widths: Mapping[str, int]

    def unit(self, name: str) -> str | None:
        """Return the unit of a column as FITS and the VO write it; None when it has none, or rows differ."""
        return next((unit for end, unit in (("_deg", "deg"), ("_hz", "Hz"), ("_s", "s")) if name.endswith(end)), None)


Sink = Callable[[Batch], None]


def format_of(what: str, output: Path | None, format_: str | None) -> str:
    """Return the format that is meant, or raise `ValueError` that says which there are."""
    export_named(what)
    chosen = format_ or (_ENDINGS.get(output.suffix.lower()) if output else "csv")
    if chosen not in FORMATS:
        asked = repr(format_) if format_ else f"for a name like {output.name if output else ''!r}"
        raise ValueError(f"there is no format {asked}; there are {', '.join(FORMATS)}")
    return chosen


async def write_export(con: Connection, what: str, dataset: str | None, format_: str, output: Path | None) -> None:
    """Write an export to a file, or to standard output. A file appears under its name when it is complete.

    Raises
    ------
    ValueError
        When the format needs a library that is not installed.
    """
    async with con.transaction(isolation="repeatable_read", readonly=True):
        columns = await _columns(con, what, dataset, count=format_ == "fits")
        with _file(output) as file, _sink(format_, columns, file) as take:
            async for batch in _some(con, what, dataset):
                take(batch)


def _some(con: Connection, what: str, dataset: str | None) -> AsyncIterator[Batch]:
    return batches(con, what, dataset, _ROWS_AT_ONCE)


@contextmanager
def _file(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _sink(format_: str, columns: Columns, file: BinaryIO) -> Iterator[Sink]:
    if format_ == "csv":
        yield _csv(columns, file)
        return
    if format_ == "parquet":
        from trapline.common.store.parquet import parquet as chosen
    elif format_ == "votable":
        from trapline.common.store.votable import votable as chosen
    else:
        from trapline.common.store.fits import fits_table as chosen
    with chosen(columns, file) as take:
        yield take


def _csv(columns: Columns, file: BinaryIO) -> Sink:
    def encoded(rows: Any) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        file.write(text.getvalue().encode())

    encoded([list(columns.kinds)])
    kinds = list(columns.kinds.values())
    return lambda batch: encoded([_cell(k, v) for k, v in zip(kinds, row, strict=True)] for row in batch.rows)


def _cell(kind: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124  NaN
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return plain_text(value) if kind == "text" else value


async def _columns(con: Connection, what: str, dataset: str | None, *, count: bool) -> Columns:
    export = export_named(what)
    rows = await con.fetch(
        "SELECT attname, col_description(attrelid, attnum) AS text FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NOT NULL",
        export.table,
    )
    described = {row["attname"]: row["text"] for row in rows if row["attname"] in export.kinds}
    n_rows, widths = await _widths(con, export, dataset) if count else (0, {})
    return Columns(what, export.kinds, described, n_rows, widths)


async def _widths(con: Connection, export: Export, dataset: str | None) -> tuple[int, dict[str, int]]:
    """Count rows and bytes of text: formats of fixed width want them before the first row."""
    texts = [name for name, kind in export.kinds.items() if kind == "text"]
    longest = ", ".join(f"coalesce(max(octet_length({name}::text)), 0)" for name in texts)
    row = await con.fetchrow(f"SELECT count(*), {longest} FROM ({export.of_dataset}) AS rows", dataset)  # noqa: S608
    assert row is not None
    return row[0], dict(zip(texts, row[1:], strict=True))
