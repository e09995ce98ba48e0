"""Exports as a FITS binary table, written row by row behind a header that knows their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from trapline.common.store.export import Batch, plain_text
from trapline.common.store.writing import Columns, Sink

_BLOCK = 2880
_TIME_BYTES = len("2026-11-28T12:00:00.123456")
_NULL = -(1 << 63)


@contextmanager
def fits_table(columns: Columns, file: BinaryIO) -> Iterator[Sink]:
    """Lend a function that writes batches. Times are ISO text (UTC); text that is not ASCII becomes ``?``."""
    hdu = fits.BinTableHDU.from_columns([_column(columns, name) for name in columns.kinds], nrows=0)
    hdu.header["NAXIS2"] = columns.rows
    hdu.header["EXTNAME"] = columns.what
    hdu.header["TIMESYS"] = "UTC"
    hdu.header["RADESYS"] = "ICRS"
    file.write(fits.PrimaryHDU().header.tostring().encode())
    file.write(hdu.header.tostring().encode())
    row = np.dtype([(name, _dtype(columns, name)) for name in columns.kinds])
    written = 0

    def take(batch: Batch) -> None:
        nonlocal written
        rows = np.empty(len(batch.rows), row)
        for name, values in zip(columns.kinds, zip(*batch.rows, strict=True), strict=True):
            rows[name] = [_value(columns.kinds[name], value) for value in values]
        written += file.write(rows.tobytes())

    yield take
    file.write(bytes(-written % _BLOCK))


def _column(columns: Columns, name: str) -> fits.Column:
    kind = columns.kinds[name]
    formats = {
        "integer": "K",
        "float": "D",
        "bool": "L",
        "time": f"{_TIME_BYTES}A",
        "text": f"{_width(columns, name)}A",
    }
    null = _NULL if kind == "integer" else None
    return fits.Column(name=name, format=formats[kind], unit=columns.unit(name), null=null)


def _dtype(columns: Columns, name: str) -> str:
    types = {
        "integer": ">i8",
        "float": ">f8",
        "bool": "S1",
        "time": f"S{_TIME_BYTES}",
        "text": f"S{_width(columns, name)}",
    }
    return types[columns.kinds[name]]


def _width(columns: Columns, name: str) -> int:
    # A list in the braces of the database is as long as one joined by commas and blanks, but for the blanks.
    return max(1, 2 * columns.widths.get(name, 0) if name == "flags" else columns.widths.get(name, 0))


def _value(kind: str, value: Any) -> Any:
    if kind == "integer":
        return _NULL if value is None else value
    if kind == "float":
        return np.nan if value is None else value
    if kind == "bool":
        return b"T" if value else b"F"
    if value is None:
        return b""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds").encode()
    return plain_text(value).encode("ascii", "replace")
