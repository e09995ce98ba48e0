"""Commands that run things: up, process, run, relay, simulate."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trapline.common.commands.options import ConfigOption, JsonOption, fail, run
from trapline.common.config.mesh import load_config, service_names
from trapline.common.postgres.errors import DatabaseError
from trapline.common.runtime.threads import with_one_thread
from trapline.common.supervisor.environment import Tables, merged
from trapline.common.supervisor.mesh import MeshError
from trapline.common.supervisor.session import Session, on_signals, open_session

app = typer.Typer()


@app.command(epilog="Example: trapline up --simulate --frames 60")
def up(
    config: ConfigOption = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Also run a simulated telescope, and listen to it.")
    ] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="End after so many simulated images per band.")] = None,
) -> None:
    """Run a whole mesh on this machine: store, relay and services; Ctrl-C drains it."""
    if frames and not simulate:
        fail("--frames needs --simulate: only a simulated telescope has an end", 2)
    overrides = _simulated(frames) if simulate else {}
    _run(_up(config, overrides, finite=frames is not None))


async def _up(path: Path | None, overrides: Tables, *, finite: bool) -> None:
    console = Console(stderr=False)
    async with open_session(path, overrides, console) as session:
        _greet(session)
        greeting = asyncio.create_task(_show_dashboard(session), name="say where the dashboard is")
        stop = asyncio.Event()
        on_signals(session.mesh, stop, session.board)
        done = asyncio.create_task(session.finish_input() if finite else asyncio.Event().wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({done, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if done.done():
            done.result()
        done.cancel()
        greeting.cancel()
        await session.drain()
        stored = await session.stored()
    _say_stored(console, stored, session)


async def _show_dashboard(session: Session) -> None:
    """Say where the dashboard is, once it listens: it removes its address when it ends."""
    children = session.mesh.of("dashboard")
    path = session.config.data_directory / "dashboard.address"
    while any(child.state not in ("failed", "done") for child in children):
        # One of a mesh that was killed may have stayed.
        if path.exists() and path.stat().st_mtime > session.began:
            session.board.say(f"dashboard at {path.read_text().strip()}", "bold")
            return
        await asyncio.sleep(0.2)


def _greet(session: Session) -> None:
    config = session.config
    session.board.say(f"data under {config.data_directory}, logs in {config.data_directory / 'log'}", "dim")
    session.board.say(f"stored in {session.database}; Ctrl-C drains and ends", "dim")


def _say_stored(console: Console, stored: dict[str, Any], session: Session) -> None:
    images = stored["images"]
    console.print(
        f"stored: {images['received']} images ({images['measured']} measured, {images['rejected']} rejected), "
        f"{stored['sources']} sources, {stored['objects']} objects, {stored['points']} points, "
        f"{stored['transients']} transients, in {stored['seconds']:.0f} s",
        soft_wrap=True,
    )
    directory = session.config.data_directory
    console.print(f"in {directory}: look with", soft_wrap=True, highlight=False)
    prefix = "" if directory == Path("trapline-data").absolute() else f"TRAPLINE__MESH__DATA_DIRECTORY={directory} "
    for command in ("export transients", "export objects", "lightcurve OBJECT"):
        console.print(f"  {prefix}trapline {command}", soft_wrap=True, highlight=False)


def _simulated(frames: int | None) -> Tables:
    """Return tables that add a simulated telescope, on ports that are free."""
    config = load_config()
    simulator: Any = config.service("simulator")
    first = _free_ports(len(simulator.bands), simulator.first_port or 5100)
    streams = [
        {"address": f"tcp://127.0.0.1:{first + i}", "instrument": "aartfaac", "reconnect": frames is None}
        for i in range(len(simulator.bands))
    ]
    told: dict[str, Any] = {"replicas": 1, "first_port": first}
    if frames is not None:
        told["frames"] = frames
    # A simulated sky may be judged by anyone on this machine.
    judged = {"allow_triage": True, "allow_replay": True}
    return {"simulator": told, "dashboard": judged, "image_ingest": {"streams": streams, "reconnect_min_s": 0.1}}


def _free_ports(count: int, first: int) -> int:
    """Return the first of so many neighbouring ports that nobody listens on."""
    for candidate in range(first, 65000, 10):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for i, one in enumerate(sockets):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", candidate + i))
        except OSError:
            continue
        else:
            return candidate
        finally:
            for one in sockets:
                one.close()
    raise OSError("no free ports for the simulated telescope")


@app.command(epilog="Example: trapline process night/*.fits --store night.store --json")
def process(
    paths: Annotated[list[str], typer.Argument(help="FITS files, directories or globs.", show_default=False)],
    store: Annotated[
        str | None, typer.Option(help="Where rows go: a directory or postgresql://...; by default a new directory.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name that separates this processing of the sky.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Push FITS files through a temporary mesh, and end when all is stored."""
    directory = Path(time.strftime("trapline-%Y%m%d-%H%M%S"))
    overrides: dict[str, dict[str, Any]] = {
        "relay": {"port": 0},
        "simulator": {"replicas": 0},
        "dashboard": {"replicas": 0},
        "associator": {"max_hold_s": None, "idle_after_s": None},
        "image_ingest": {"paths": [_absolute(path) for path in paths], "streams": []},
        # An archive is as old as it is: all of it is wanted.
        "database_dumper": {"keep_points_s": 0, "keep_minutes_s": 0},
    }
    if store and "://" in store:
        overrides["database"] = {"dsn": store}
    elif store:
        directory = Path(store)
    overrides["mesh"] = {"data_directory": str(directory.absolute())}
    if dataset:
        overrides["mesh"]["dataset"] = dataset
    _run(_process(config, overrides, as_json=as_json))


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())


async def _process(path: Path | None, overrides: Tables, *, as_json: bool) -> None:
    console = Console(stderr=as_json)
    # What is old is told to nobody: plug-ins may trigger telescopes.
    async with open_session(path, merged(overrides), console, plugins=False) as session:
        stop = asyncio.Event()
        on_signals(session.mesh, stop, session.board)
        done = asyncio.create_task(session.finish_input())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({done, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            done.cancel()
            await session.drain()
        else:
            done.result()
        stored = await session.stored()
    if as_json:
        sys.stdout.write(json.dumps(stored) + "\n")
    else:
        _say_stored(console, stored, session)
    if stop.is_set():
        raise typer.Exit(130)


@app.command(epilog="Example: trapline run source_extractor-1 --config mesh.toml", name="run")
def run_service(
    service: Annotated[
        str,
        typer.Argument(help="Name of a service, or of one of its replicas: source_extractor-1.", show_default=False),
    ],
    replica: Annotated[str, typer.Option(help="Name of this replica; its partitions have it.")] = "0",
    config: ConfigOption = None,
) -> None:
    """Run one service in the foreground, as systemd or Kubernetes would."""
    service, _, number = service.partition("-")
    replica = number or replica
    if service not in service_names():
        fail(f"there is no service {service!r}; there are {', '.join(service_names())}", 2)
    _replace_by(f"trapline.{service}", "--replica", replica, config=config)


@app.command(epilog="Example: trapline relay --config mesh.toml")
def relay(config: ConfigOption = None) -> None:
    """Run the relay of this host in the foreground."""
    _replace_by("trapline.common.relay", config=config)


@app.command(epilog="Example: trapline simulate --frames 10")
def simulate(
    frames: Annotated[
        int | None, typer.Option(min=1, help="How many images per band; without it until stopped.")
    ] = None,
    fits: Annotated[Path | None, typer.Option(help="Write FITS files and their truth here instead of serving.")] = None,
    config: ConfigOption = None,
) -> None:
    """Be a telescope: serve simulated images on TCP ports, or write them as FITS files."""
    if frames is not None:
        os.environ["TRAPLINE__SIMULATOR__FRAMES"] = str(frames)
    arguments = ["--fits", str(fits)] if fits else []
    _replace_by("trapline.simulator.standalone", *arguments, config=config)


def _replace_by(module: str, *arguments: str, config: Path | None) -> None:
    """Become another program: signals reach it directly, and its exit code is ours."""
    command = [sys.executable, "-m", module, *arguments, *(["--config", str(config)] if config else [])]
    os.execve(sys.executable, command, with_one_thread(os.environ))  # noqa: S606  our own program, never through a shell


def _run(work: Any) -> None:
    try:
        run(work)
    except (MeshError, DatabaseError) as error:
        fail(error)
