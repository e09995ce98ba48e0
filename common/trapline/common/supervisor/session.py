"""One run of a mesh from start to end: what `trapline up` and `trapline process` share."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.postgres.connection import open_database
from trapline.common.postgres.migrate import upgrade
from trapline.common.store.summary import summary
from trapline.common.supervisor.board import StatusBoard
from trapline.common.supervisor.database import RunningDatabase, running_database
from trapline.common.supervisor.environment import Tables, child_environment, merged
from trapline.common.supervisor.mesh import Mesh

SOURCES = ("simulator", "image_ingest")
"""services at which data begin: stopped first when a mesh drains"""


class Session:
    """A mesh with its database, used as an async context manager through `open_session`."""

    def __init__(self, mesh: Mesh, config: MeshConfig, database: RunningDatabase, board: StatusBoard) -> None:
        self.mesh = mesh
        self.config = config
        self.database = database
        self.board = board
        self.began = time.time()
        self._began = time.monotonic()

    async def finish_input(self) -> None:
        """Return when ingest has read its finite input and everything that came of it is stored."""
        for child in self.mesh.of("image_ingest"):
            await child.finished()
        await self.mesh.drained()

    async def drain(self) -> None:
        """Stop what brings data in, and wait a bounded time until the rest is stored."""
        for service in SOURCES:
            await self.mesh.stop_service(service)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.config.mesh.drain_s):
                await self.mesh.drained()
        await self.mesh.told_to_plugins()

    async def stored(self) -> dict[str, Any]:
        """Return how much is stored, and how long this run took."""
        async with (
            open_database(self.database.dsn, self.config.database, read_only=True) as database,
            database.connection() as con,
        ):
            counts = msgspec.to_builtins(await summary(con))
        return {**counts, "seconds": round(time.monotonic() - self._began, 3)}


@asynccontextmanager
async def open_session(
    path: Path | None, overrides: Tables, console: Console, *, plugins: bool = True
) -> AsyncIterator[Session]:
    """Start a database, bring its schema up to date, and start a mesh; stop everything in order at the end.

    Parameters
    ----------
    path, overrides
        Of the configuration.
    console
        For what it says.
    plugins
        Whether to run those that the configuration lists.

    Raises
    ------
    ConfigError, DatabaseError, MeshError
        When something cannot run; the text says what, and the way out.
    """
    config = load_config(path, **overrides)
    if not plugins:
        config = config.model_copy(update={"plugins": {}})
    async with AsyncExitStack() as stack:
        board = stack.enter_context(StatusBoard(console))
        database = stack.enter_context(running_database(config))
        if database.note:
            board.say(database.note, "yellow")
        await asyncio.to_thread(upgrade, database.dsn, config.database)
        data = str(config.data_directory)
        own: Tables = {"database": {"dsn": database.dsn}, "mesh": {"data_directory": data}}
        environment = child_environment(merged(overrides, own))
        arguments = ["--config", str(Path.cwd() / path)] if path else []
        mesh = await stack.enter_async_context(Mesh(config, environment, arguments, board))
        keeper = asyncio.create_task(database.keep_alive(board.say), name="keep the database alive")
        try:
            yield Session(mesh, config, database, board)
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)


def on_signals(mesh: Mesh, first: asyncio.Event, board: StatusBoard) -> None:
    """Set an event at the first SIGINT or SIGTERM; at the second, end everything at once."""

    def stop() -> None:
        if first.is_set():
            for child in mesh.children():
                child.signal(signal.SIGKILL)
            os._exit(130)
        board.say("draining; once more ends at once", "cyan")
        first.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
