"""Exports as VOTable 1.4, the XML of the Virtual Observatory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO
from xml.sax.saxutils import escape, quoteattr

from trapline.common.store.export import Batch, plain_text
from trapline.common.store.writing import Columns, Sink

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE type="results">
<COOSYS ID="icrs" system="ICRS"/>
<TIMESYS ID="utc" timescale="UTC" refposition="UNKNOWN"/>
<TABLE name={name}>
"""
_TAIL = "</TABLEDATA>\n</DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n"
_TYPES = {
    "text": 'datatype="unicodeChar" arraysize="*"',
    "time": 'datatype="char" arraysize="*" xtype="timestamp" ref="utc"',
    "integer": 'datatype="long"',
    "float": 'datatype="double"',
    "bool": 'datatype="boolean"',
}
_UCDS = {"ra_deg": "pos.eq.ra", "dec_deg": "pos.eq.dec", "t": "time.start", "flux_int": "phot.flux"}
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@contextmanager
def votable(columns: Columns, file: BinaryIO) -> Iterator[Sink]:
    """Lend a function that writes batches; absent values are empty cells."""
    file.write(_HEAD.format(name=quoteattr(columns.what)).encode())
    file.writelines(_field(columns, name).encode() for name in columns.kinds)
    file.write(b"<DATA>\n<TABLEDATA>\n")

    def take(batch: Batch) -> None:
        for row in batch.rows:
            cells = "".join(f"<TD>{_cell(value)}</TD>" for value in row)
            file.write(f"<TR>{cells}</TR>\n".encode())

    yield take
    file.write(_TAIL.encode())


def _field(columns: Columns, name: str) -> str:
    attributes = f"name={quoteattr(name)} {_TYPES[columns.kinds[name]]}"
    if unit := columns.unit(name):
        attributes += f" unit={quoteattr(unit)}"
    if ucd := _UCDS.get(name):
        attributes += f" ucd={quoteattr(ucd)}"
    text = columns.descriptions.get(name)
    inside = f"<DESCRIPTION>{escape(text)}</DESCRIPTION>" if text else ""
    return f"<FIELD {attributes}>{inside}</FIELD>\n"


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() | int():
            return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(text := repr(value), text)
        case datetime():
            return value.replace(tzinfo=None).isoformat(timespec="microseconds")
        case _:
            return escape(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", plain_text(value)))
