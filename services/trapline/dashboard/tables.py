"""Lists for programs: JSON, CSV and VOTable of the same rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

import msgspec
from msgspec.structs import replace
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from trapline.common.store.order import Order
from trapline.common.store.pages import Filters, page
from trapline.dashboard.questions import paging_of
from trapline.dashboard.rendering import iso
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.units import all_converted, unit_of

Row = Mapping[str, Any]
_ROWS_AT_ONCE = 500
_PAGE = 2000
_SORTED_PAGE = 20_000
"""rows at once of a sorted list: each page of it is a pass over all that pass the filters"""


class Column(NamedTuple):
    """A column of a list for programs: numbers are doubles of a VOTable, all else is text."""

    name: str
    unit: str = ""
    numeric: bool = False


class _Form(Convertor[str]):
    regex = "json|csv|vot"

    def convert(self, value: str) -> str:
        """Return the name of the form."""
        return value

    def to_string(self, value: str) -> str:
        """Return the ending of an address."""
        return value


class _Plain(_Form):
    regex = "json|csv"


register_url_convertor("form", _Form())
register_url_convertor("plain", _Plain())


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: what was not measured is null, ids and times are text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def json_response(value: Any) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(plain(value)), media_type="application/json")


def csv_response(name: str, rows: Iterable[Row]) -> Response:
    """Return a list that is in memory as CSV."""
    found = list(rows)
    columns = list(dict.fromkeys(key for row in found for key in row))
    text = "".join(csv_lines(columns, [columns, *([row.get(c) for c in columns] for row in found)]))
    return Response(text, media_type="text/csv; charset=utf-8", headers=_attachment(f"{name}.csv"))


def list_response(form: str, name: str, rows: Iterable[Row]) -> Response:
    """Return a list that is in memory as JSON or CSV."""
    return json_response(list(rows)) if form == "json" else csv_response(name, rows)


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return CSV lines; `columns` is how many cells each has."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_cell(value) for value in row[: len(columns)]] for row in rows)
    return [out.getvalue()]


def table_response(form: str, name: str, columns: Sequence[Column], rows: AsyncIterator[Row]) -> Response:
    """Stream a list of any length.

    Parameters
    ----------
    form
        ``json``, ``csv`` or ``vot``.
    name
        Of the file that a browser makes of it.
    columns
        What each row has.
    rows
        Values by column.
    """
    lines: AsyncIterator[str] | AsyncIterator[bytes]
    lines = _json(columns, rows) if form == "json" else (_csv if form == "csv" else _votable)(columns, rows)
    kind = {"json": "application/json", "csv": "text/csv; charset=utf-8", "vot": "application/x-votable+xml"}[form]
    return StreamingResponse(lines, media_type=kind, headers=_attachment(f"{name}.{form}"))


async def stored_rows(request: Request, what: str, filters: Filters) -> AsyncIterator[Row]:
    """Return all rows of a list of the store that pass some filters, fetched page by page while they are taken.

    Fluxes are in the unit that the request asks for, and rows as it sorts them.

    Raises
    ------
    DatabaseError
        When the store does not answer: here, and not in the middle of a file.
    """
    site, unit = site_of(request), unit_of(request)
    order = paging_of(request.query_params)["order"]
    async with site.store():
        pass

    async def rows() -> AsyncIterator[Row]:
        async for found in stored_pages(site, what, filters, order):
            for row in all_converted(found, unit):
                yield row

    return rows()


async def stored_pages(
    site: Site, what: str, filters: Filters, order: Order | None
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the rows of a list of the store, some thousand at once."""
    before: UUID | None = None
    limit = _SORTED_PAGE if order else _PAGE
    while True:
        async with site.store() as con:
            found = await page(con, what, filters, limit=limit, before=before, order=order)
        yield found
        if len(found) < limit:
            return
        before = found[-1]["key"]
        order = order and replace(order, at=str(found[-1]["at"]))


async def _json(columns: Sequence[Column], rows: AsyncIterator[Row]) -> AsyncIterator[bytes]:
    first = True
    async for some in _batches(rows):
        lines = [msgspec.json.encode(plain({c.name: row[c.name] for c in columns})) for row in some]
        yield (b"[" if first else b",\n") + b",\n".join(lines)
        first = False
    yield b"[]\n" if first else b"]\n"


async def _csv(columns: Sequence[Column], rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    names = [c.name for c in columns]
    yield csv_lines(names, [names])[0]
    async for some in _batches(rows):
        yield csv_lines(names, [[row[key] for key in names] for row in some])[0]


async def _votable(columns: Sequence[Column], rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """Yield a VOTable 1.4 with one table; everything is text or double."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
    yield '<RESOURCE type="results"><TABLE>\n'
    for c in columns:
        kind = 'datatype="double"' if c.numeric else 'datatype="unicodeChar" arraysize="*"'
        unit = f" unit={quoteattr(c.unit)}" if c.unit else ""
        yield f"<FIELD name={quoteattr(c.name)} {kind}{unit}/>\n"
    yield "<DATA><TABLEDATA>\n"
    async for some in _batches(rows):
        cells = [[f"<TD>{escape(str(_cell(row[c.name])))}</TD>" for c in columns] for row in some]
        yield "".join(f"<TR>{''.join(row)}</TR>\n" for row in cells)
    yield "</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>\n"


async def _batches(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    some: list[Row] = []
    async for row in rows:
        some.append(row)
        if len(some) == _ROWS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _cell(value: Any) -> Any:
    value = plain(value)
    if value is None:
        return ""
    return msgspec.json.encode(value).decode() if isinstance(value, (list, dict)) else value


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
