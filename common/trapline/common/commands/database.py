"""Commands about the store: lightcurve, cone, export, db."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from trapline.common.commands.options import ConfigOption, JsonOption, fail, run
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.ids import parse_id
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.migrate import newest_version, upgrade
from trapline.common.store import EXPORTS, cone, export, lightcurve
from trapline.common.supervisor.database import running_database

app = typer.Typer()
db = typer.Typer(help="The tables of the store.", no_args_is_help=True)
app.add_typer(db, name="db")
T = TypeVar("T")

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Only of this processing of the sky.")]

_POINT_COLUMNS = ("t", "band", "flux_int", "flux_int_err", "flux_peak", "unit", "snr", "n", "v", "eta", "flags")
_OBJECT_COLUMNS = ("object", "distance_deg", "ra_deg", "dec_deg", "n", "bands", "first_seen", "last_seen")


@app.command("lightcurve", epilog="Example: trapline lightcurve 019b76da-a87b-8000-8000-000000000000 --json")
def show_lightcurve(
    object_: Annotated[str, typer.Argument(metavar="OBJECT", help="Id of an object; `cone` and `export` show them.")],
    band: Annotated[str | None, typer.Option(help="Only this band.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the lightcurve of an object, in the order of time."""
    wanted = _id(object_)
    points = _read(config, lambda con: lightcurve(con, wanted, band))
    _print(points, _POINT_COLUMNS, as_json=as_json)


@app.command("cone", epilog="Example: trapline cone 350.85 58.81 0.5")
def show_cone(
    ra: Annotated[float, typer.Argument(help="Right ascension, ICRS degrees.")],
    dec: Annotated[float, typer.Argument(help="Declination, ICRS degrees; behind -- when it is negative.")],
    radius: Annotated[float, typer.Argument(help="Radius in degrees.")],
    dataset: DatasetOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List the objects near a position, nearest first."""
    objects = _read(config, lambda con: cone(con, ra, dec, radius, dataset))
    _print(objects, _OBJECT_COLUMNS, as_json=as_json)


@app.command("export", epilog="Example: trapline export transients > transients.csv")
def show_export(
    what: Annotated[str, typer.Argument(help=f"{', '.join(EXPORTS)}.")],
    format_: Annotated[str, typer.Option("--format", help="csv.")] = "csv",
    dataset: DatasetOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a whole table, in an order that depends on its content alone."""
    if what not in EXPORTS:
        fail(f"there is no export of {what!r}; there are {', '.join(EXPORTS)}", 2)
    if format_ != "csv":
        fail(f"there is no format {format_!r}; there is csv", 2)

    async def write(con: Connection) -> None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(EXPORTS[what].columns)
        async for row in export(con, what, dataset):
            writer.writerow([_plain(value) for value in row])

    _read(config, write)


def _read(path: Any, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do something with a read-only connection to the store of a configuration."""

    async def connected(config: MeshConfig, dsn: str) -> T:
        async with (
            open_database(dsn, config.database, program="trapline read", read_only=True) as database,
            database.connection() as con,
        ):
            return await work(con)

    try:
        config = load_config(path)
        with running_database(config) as database:
            return run(connected(config, database.dsn))
    except BrokenPipeError:
        # Whoever read our output has enough.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except (DatabaseError, LookupError, ValueError) as error:
        fail(error)


def _print(rows: Sequence[msgspec.Struct], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            values = {name: _plain(getattr(row, name), null=None) for name in row.__struct_fields__}
            sys.stdout.write(json.dumps(values) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(_short(getattr(row, name)) for name in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _plain(value: Any, null: Any = "") -> Any:
    """Return a value of a row as CSV and JSON have it: times in ISO form, nothing for what was not measured."""
    match value:
        case None:
            return null
        case float() if value != value:  # noqa: PLR0124  NaN
            return null
        case UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case _:
            return value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _id(text: str) -> bytes:
    try:
        return parse_id(text)
    except ValueError as error:
        fail(error, 2)


@db.command("upgrade", epilog="Example: trapline db upgrade --config mesh.toml")
def upgrade_schema(config: ConfigOption = None) -> None:
    """Bring the tables of the store to the version of this program; `up` and `process` do it by themselves."""
    try:
        effective = load_config(config)
        with running_database(effective) as database:
            flavour = upgrade(database.dsn, effective.database)
            sys.stdout.write(f"{database}: schema {newest_version()}, positions indexed by {flavour}\n")
    except (DatabaseError, ValueError) as error:
        fail(error)
