"""Commands that read the store: lightcurve, cone, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast
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
from trapline.common.postgres.migrate import refuse_other_schema
from trapline.common.store import EXPORTS, RESOLUTIONS, Lightcurve, Resolution, Window, cone, lightcurve
from trapline.common.store.arguments import as_time
from trapline.common.store.writing import FORMATS, format_of, write_export
from trapline.common.supervisor.database import existing_database

app = typer.Typer()
T = TypeVar("T")

DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Only of this processing of the sky.")]

_POINT_COLUMNS = ("t", "band", "kind", "flux_int", "flux_int_err", "flux_peak", "unit", "snr", "n", "v", "eta", "flags")
_OBJECT_COLUMNS = ("object", "distance_deg", "ra_deg", "dec_deg", "n", "bands", "first_seen", "last_seen")


@app.command("lightcurve", epilog="Example: trapline lightcurve 019b76da-a87b-8000-8000-000000000000 --plot out.png")
def show_lightcurve(
    object_: Annotated[str, typer.Argument(metavar="OBJECT", help="Id of an object; `cone` and `export` show them.")],
    band: Annotated[str | None, typer.Option(help="Only this band.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time, UTC, in ISO form.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time.")] = None,
    resolution: Annotated[str, typer.Option(help=f"auto, {', '.join(RESOLUTIONS)}.")] = "auto",
    plot: Annotated[Path | None, typer.Option(help="Draw it into this file: .png, .pdf or .svg.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print or draw the lightcurve of an object, in the order of time."""
    wanted, window, chosen = _id(object_), _window(since, until), cast("Resolution", resolution)
    curve = _read(config, lambda con: lightcurve(con, wanted, band, window, chosen))
    if plot:
        _plot(curve, plot)
    if as_json or not plot:
        _print(list(curve.rows()), _POINT_COLUMNS, as_json=as_json)


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
    _print([msgspec.structs.asdict(o) for o in objects], _OBJECT_COLUMNS, as_json=as_json)


@app.command("export", epilog="Example: trapline export transients --output transients.parquet")
def show_export(
    what: Annotated[str, typer.Argument(help=f"{', '.join(EXPORTS)}.")],
    output: Annotated[Path | None, typer.Option(help="File to write; without it, to the terminal.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}; by default as the file's name ends.")
    ] = None,
    dataset: DatasetOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a whole table, in an order that depends on its content alone."""
    try:
        chosen = format_of(what, output, format_)
    except ValueError as error:
        fail(error, 2)
    if output is None and chosen != "csv" and sys.stdout.isatty():
        fail(f"{chosen} is not for a terminal: give --output FILE", 2)
    _read(config, lambda con: write_export(con, what, dataset, chosen, output))


def _read(path: Any, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do something with a read-only connection to the store of a configuration."""

    async def connected(config: MeshConfig, dsn: str) -> T:
        async with (
            open_database(dsn, config.database, program="trapline read", read_only=True) as database,
            database.connection() as con,
        ):
            await refuse_other_schema(con)
            return await work(con)

    try:
        config = load_config(path)
        with existing_database(config) as database:
            return run(connected(config, database.dsn))
    except BrokenPipeError:
        # Whoever read our output has enough.
        sys.stderr.close()
        raise typer.Exit(0) from None
    except (DatabaseError, LookupError, ValueError) as error:
        fail(error)


def _plot(curve: Lightcurve, path: Path) -> None:
    from trapline.common.store.plot import plot_lightcurve
    from trapline.common.store.timeseries import time_series

    try:
        plot_lightcurve(time_series(curve), path)
    except (ValueError, OSError) as error:
        fail(error)
    sys.stderr.write(f"{len(curve)} points drawn in {path}\n")


def _print(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps({name: _plain(value) for name, value in row.items()}) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(_short(row[name]) for name in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: times in ISO form, null for what was not measured."""
    match value:
        case float() if value != value:  # noqa: PLR0124  NaN
            return None
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


def _window(since: str | None, until: str | None) -> Window:
    try:
        return Window(as_time(since), as_time(until))
    except ValueError as error:
        fail(f"{error}: a time looks like 2026-11-28T12:00", 2)


def _id(text: str) -> bytes:
    try:
        return parse_id(text)
    except ValueError as error:
        fail(error, 2)
