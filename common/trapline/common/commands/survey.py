"""Commands of the simulated survey: gen-sources, run, follow, report."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trapline.common.commands.options import EXPECTED, ConfigOption, JsonOption, fail
from trapline.common.commands.options import run as run_coroutine
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.postgres.connection import open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.supervisor.environment import Tables
from trapline.common.supervisor.mesh import MeshError
from trapline.common.supervisor.session import Session, on_signals, open_session

app = typer.Typer(
    help="Size an alert pipeline: a survey that never happened, through the real mesh.", no_args_is_help=True
)
group = typer.Typer()
group.add_typer(app, name="survey")

DirectoryOption = Annotated[
    Path, typer.Option("--directory", help="Where the survey has its data: journals, store, and visits.csv.")
]
_DIRECTORY = Path("trapline-survey")
_LOOK_S = 0.5
_SET = ("survey", "associator", "transient_finder", "database_dumper")


@app.command("gen-sources", epilog="Example: trapline survey gen-sources stars.fits --cone 30 -20 3")
def gen_sources(
    path: Annotated[Path, typer.Argument(help="Table to write: .fits, .ecsv or .csv.", show_default=False)],
    cone: Annotated[
        tuple[float, float, float], typer.Option(help="Centre (ICRS, degrees) and radius of the part of the sky.")
    ] = (30.0, -20.0, 3.0),
    config: ConfigOption = None,
) -> None:
    """Write the variable sources of a part of the sky, as the survey draws them, for [survey] catalogue."""
    sky: Any = importlib.import_module("trapline.survey.sky")
    try:
        stars = sky.stars_in(load_config(config).service("survey"), *cone)
        sky.save_stars(stars, path)
    except ConfigError as error:
        fail(error, 2)
    except EXPECTED as error:
        fail(error)
    sys.stdout.write(f"wrote {len(stars)} sources to {path}\n")


@app.command(epilog="Example: trapline survey run --config survey.toml --visits 60")
def run(
    config: ConfigOption = None,
    visits: Annotated[int | None, typer.Option(min=1, help="How many visits, also those of an earlier run.")] = None,
    directory: DirectoryOption = _DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Run visits through a mesh of its own; one that was stopped goes on where it was. Ctrl-C drains it."""
    try:
        overrides = mesh_tables(directory, load_config(config))
        overrides["survey"] = {"replicas": 1, **({"visits": visits} if visits else {})}
        summary = run_coroutine(_run(config, overrides, Console(stderr=as_json)))
    except ConfigError as error:
        fail(error, 2)
    except (MeshError, DatabaseError) as error:
        fail(error)
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")


def mesh_tables(directory: Path, config: MeshConfig) -> dict[str, dict[str, Any]]:
    """Return the settings of a mesh whose images come from a survey, with its data in a directory."""
    # Every answer comes: nothing is passed over because it is slow.
    associator: dict[str, Any] = {"max_hold_s": None, "idle_after_s": None}
    if "expiration" not in config.service("associator").model_fields_set:
        sky: Any = config.service("survey")
        associator["expiration"] = sky.forced_steps
    return {
        "mesh": {"data_directory": str(directory.absolute())},
        "relay": {"port": 0},
        **{name: {"replicas": 0} for name in ("simulator", "image_ingest", "source_extractor")},
        "associator": associator,
        # A visit is a batch: there is nothing to wait for.
        "database_dumper": {"flush_s": 0.02},
    }


async def _run(path: Path | None, overrides: Tables, console: Console) -> dict[str, Any]:
    log: Any = importlib.import_module("trapline.survey.visitlog")
    async with open_session(path, overrides, console) as session:
        file = session.config.data_directory / "survey" / log.NAME
        before = log.load_taken(file.parent)
        empty = before.get("store_bytes_empty") or (0 if file.exists() else await _store_bytes(session))
        taken = {"settings": _settings(session.config), "store_bytes_empty": empty}
        log.save_taken(file.parent, {**before, **taken})
        session.board.say(f"visits in {file}; `trapline survey follow` shows them as they come", "dim")
        stop = asyncio.Event()
        on_signals(session.mesh, stop, session.board)
        tasks = [asyncio.create_task(_finish(session)), asyncio.create_task(stop.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
        for task in tasks:
            task.cancel()
        await session.mesh.stop_service("survey")
        await session.drain()
        stored = await session.stored()
        taken |= {"stored": stored, "store_bytes": await _store_bytes(session)}
    report: Any = importlib.import_module("trapline.survey.report")
    log.save_taken(file.parent, taken)
    summary = {**report.summary(list(log.read_rows(file)) if file.exists() else []), **taken}
    for line in report.lines(summary):
        console.print(line, soft_wrap=True, highlight=False)
    console.print("`trapline survey report` has plots, comparisons, and what a year would take", style="dim")
    return summary


def _settings(config: MeshConfig) -> dict[str, Any]:
    """Return the settings of a run by ``table.name``, as JSON has them."""
    tables = {name: config.service(name).model_dump(mode="json") for name in _SET}
    return {f"{table}.{name}": value for table, values in tables.items() for name, value in values.items()}


async def _store_bytes(session: Session) -> int:
    """Return the size of the database with its indexes."""
    async with (
        open_database(session.database.dsn, session.config.database, read_only=True) as database,
        database.connection() as con,
    ):
        return int(await con.fetchval("SELECT pg_database_size(current_database())"))


async def _finish(session: Session) -> None:
    for child in session.mesh.of("survey"):
        await child.finished()


@app.command(epilog="Example: trapline survey follow --directory trapline-survey")
def follow(
    directory: DirectoryOption = _DIRECTORY,
    once: Annotated[bool, typer.Option("--once", help="Show what there is, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a line per visit as it comes, with the seconds of each step; Ctrl-C ends."""
    log: Any = importlib.import_module("trapline.survey.visitlog")
    report: Any = importlib.import_module("trapline.survey.report")
    file = directory / "survey" / log.NAME
    try:
        for number, row in enumerate(_rows(log, file, once=once)):
            if as_json:
                sys.stdout.write(json.dumps(asdict(row)) + "\n")
            else:
                sys.stdout.write(report.line(row, heading=number % 20 == 0))
            sys.stdout.flush()
    except EXPECTED as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command(epilog="Example: trapline survey report trapline-survey other-survey --html report.html")
def report(
    directories: Annotated[
        list[Path] | None, typer.Argument(help="Directories of surveys; several are compared.", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw seconds and rows per visit: .png, .svg or .pdf.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write all of it as one page, with its plots.")] = None,
    nights: Annotated[int, typer.Option(min=1, max=366, help="Nights of a year, to extrapolate to.")] = 300,
    as_json: JsonOption = False,
) -> None:
    """Sum up runs, compare them side by side, and say what a year of such visits would take."""
    reading: Any = importlib.import_module("trapline.survey.reading")
    try:
        runs = [reading.read_run(directory) for directory in directories or [_DIRECTORY]]
        if as_json:
            for run_read in runs:
                sys.stdout.write(json.dumps(run_read.as_dict(nights)) + "\n")
        else:
            for line in reading.text(runs, nights):
                sys.stdout.write(line + "\n")
        if plot:
            drawing: Any = importlib.import_module("trapline.survey.plot")
            drawing.draw({run_read.name: run_read.rows for run_read in runs}, plot)
        if html:
            page: Any = importlib.import_module("trapline.survey.page")
            html.write_text(page.page(runs, nights), encoding="utf-8")
    except EXPECTED as error:
        fail(error)


def _rows(log: Any, file: Path, *, once: bool) -> Iterator[Any]:
    if once and not file.exists():
        raise FileNotFoundError(f"there is no {file}: `trapline survey run` writes it")
    shown = 0
    while True:
        rows = list(log.read_rows(file)) if file.exists() else []
        yield from rows[shown:]
        shown = len(rows)
        if once:
            return
        time.sleep(_LOOK_S)
