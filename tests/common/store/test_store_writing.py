"""Exports read back by those whose formats they are."""

from __future__ import annotations

import csv
import io
import resource
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table, validate
from astropy.table import Table
from pyarrow import parquet

import lightcurve_messages as mesh
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.store import EXPORTS, export
from trapline.common.store.writing import FORMATS, format_of, write_export
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.image import Band
from trapline.schemas.message import Message

N_POINTS = 3 * 40


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    """A store with what is awkward: NULL, NaN, infinity, NUL, markup, other alphabets, lists."""
    objects = mesh.object_ids(40)
    odd = mesh.lightcurves_message(0, objects)
    flux = np.array(odd.arrays["flux_int"])
    flux[:3] = np.nan, np.inf, -np.inf
    of = mesh.image(1, band=Band("<ä & \0\x01>"), unit=None)
    messages = [
        mesh.images_message(0), mesh.rejected(1), mesh.images_message(2, noise=float("nan")),
        Message(odd.header, dict(odd.arrays) | {"flux_int": flux}),
        mesh.lightcurves_message(1, objects, image=of), mesh.lightcurves_message(2, objects), mesh.event(0, objects[0]),
    ]  # fmt: skip
    async with open_database(dsn) as database, database.connection() as lent:
        await store_batch(lent, "test", [rows_of(mesh.place("any", i), m) for i, m in enumerate(messages)])
        yield lent


async def rows_in(con: Connection, what: str) -> list[dict[str, Any]]:
    return [dict(zip(EXPORTS[what].columns, row, strict=True)) async for row in export(con, what)]


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def read(path: Path, format_: str) -> dict[str, list[Any]]:
    """Columns of a file, as the reader of its format gives them."""
    if format_ == "csv":
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        rows = list(reader)
        return {name: [row[name] for row in rows] for name in reader.fieldnames or ()}
    if format_ == "parquet":
        return {name: values.tolist() for name, values in pd.read_parquet(path).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = Table.read(path, format=format_)
    return {name: [None if v is np.ma.masked else v for v in table[name]] for name in table.colnames}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("what", sorted(EXPORTS))
async def test_every_format_holds_every_row(con: Connection, tmp_path: Path, what: str, format_: str) -> None:
    path = tmp_path / "out"
    await write_export(con, what, None, format_, path)
    stored, found = await rows_in(con, what), read(path, format_)
    assert list(found) == list(EXPORTS[what].columns)
    assert {len(column) for column in found.values()} == {len(stored)}
    for name, kind in EXPORTS[what].kinds.items():
        given = [row[name] for row in stored]
        if kind == "float":
            numbers = [np.nan if v in (None, "") else float(v) for v in found[name]]
            np.testing.assert_array_equal(numbers, [np.nan if v is None else v for v in given], name)
        elif kind == "integer":
            assert [None if v in (None, "") or np.isnan(float(v)) else int(v) for v in found[name]] == given, name
        elif kind == "time":
            texts = [None if v is None or v is pd.NaT else str(v).replace("T", " ")[:26] for v in found[name]]
            wanted = [None if v is None else v.isoformat(" ", "microseconds")[:26] for v in given]
            assert [t or None for t in texts] == wanted, name
    assert not (tmp_path / "out.part").exists()


async def test_what_a_file_says_of_its_columns(con: Connection, tmp_path: Path) -> None:
    for format_ in ("votable", "fits", "parquet"):
        await write_export(con, "lightcurves", None, format_, tmp_path / format_)
    assert validate(tmp_path / "votable", output=None)
    field = {f.name: f for f in parse_single_table(tmp_path / "votable").fields}["ra_deg"]
    assert (str(field.unit), field.ucd) == ("deg", "pos.eq.ra") and "ICRS" in field.description
    with fits.open(tmp_path / "fits") as opened:
        opened.verify("exception")
        assert (opened[1].name, opened[1].columns["ra_deg"].unit) == ("lightcurves", "deg")
        assert len(opened[1].data) == N_POINTS
    field = parquet.read_schema(tmp_path / "parquet").field("ra_deg")
    assert field.metadata[b"unit"] == b"deg" and b"ICRS" in field.metadata[b"description"]


async def test_an_empty_export_is_a_file_without_rows(con: Connection, tmp_path: Path) -> None:
    for format_ in FORMATS:
        await write_export(con, "objects", "no such dataset", format_, tmp_path / format_)
    assert len(Table.read(tmp_path / "fits", format="fits")) == len(pd.read_parquet(tmp_path / "parquet")) == 0
    assert len(Table.read(tmp_path / "votable", format="votable")) == 0
    assert (tmp_path / "csv").read_text().splitlines() == [",".join(EXPORTS["objects"].columns)]


async def test_a_file_that_fails_does_not_appear(con: Connection, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await write_export(con, "lightcurves", None, "csv", tmp_path / "out.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names_in(tmp_path) == []


def test_the_format_follows_from_the_name() -> None:
    names = {"a.csv": "csv", "a.PARQUET": "parquet", "a.xml": "votable", "a.vot": "votable", "a.fits": "fits"}
    assert {name: format_of("images", Path(name), None) for name in names} == names
    assert format_of("images", None, None) == "csv"
    assert format_of("images", Path("a.csv"), "fits") == "fits"
    with pytest.raises(ValueError, match=r"no format for a name like 'a\.xlsx'; there are csv, parquet, votable, fits"):
        format_of("images", Path("a.xlsx"), None)
    with pytest.raises(ValueError, match="no format 'hdf5'"):
        format_of("images", None, "hdf5")
