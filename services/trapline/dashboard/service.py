"""dashboard as a daemon: pages for operators, fed by the mesh and by two kinds of query to the store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, cast

from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig
from trapline.common.postgres.connection import Database, open_database
from trapline.common.relay.process import retention_rules
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.dashboard.config import DashboardConfig
from trapline.dashboard.core import Expected

if TYPE_CHECKING:
    from trapline.dashboard.site import Site

ADDRESS_FILE = "dashboard.address"
DEPTH = {"status": 120, "images": 600, "sources": 600, "transients": 1000, "triage": 2000, "dead_letters": 200}
"""records of each partition that are kept in memory, by channel"""
_TRIES = 20


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port, or on the next free one behind it.

    Raises
    ------
    OSError
        When the address is not of this host, or none of twenty ports is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, port + _TRIES) if port else (0,):
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, candidate))
            listening.listen(128)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return listening
    raise OSError(
        errno.EADDRINUSE, f"the ports {port} to {port + _TRIES - 1} of {host} are taken: set [dashboard] port"
    )


def expected_of(config: MeshConfig) -> Expected:
    """Return what should run on this host, and how long its channels are kept."""
    sections = {name: section for name, section in config.services().items() if section.replicas}
    rules = {name: rule.model_dump() for name, rule in retention_rules(config).items()}
    plugins = {name: plugin.replicas for name, plugin in config.plugins.items()}
    return Expected(sections, config.runtime.heartbeat_s, rules, plugins)


async def run(context: Context) -> None:
    """Serve pages until told to drain; viewers that are there then are sent away."""
    for module in ("starlette", "uvicorn", "jinja2"):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"the dashboard needs {module}: `pip install trapline[dashboard]`, or leave it out: "
                "[dashboard] replicas = 0"
            )
    from trapline.dashboard.server import follow, serve

    settings = cast("DashboardConfig", context.section)
    os.nice(settings.niceness)
    listening = listening_socket(settings.host, settings.port)
    async with _site(context, settings) as site:
        with _announced(context, settings, listening):
            context.fine()
            following = asyncio.create_task(follow(site), name="follow the mesh")
            try:
                await serve(site, listening)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


@contextlib.asynccontextmanager
async def _site(context: Context, settings: DashboardConfig) -> AsyncIterator[Site]:
    from trapline.dashboard.hub import Hub
    from trapline.dashboard.records import Records
    from trapline.dashboard.rendering import Pages
    from trapline.dashboard.site import Site
    from trapline.dashboard.window import ChannelWindow

    async with contextlib.AsyncExitStack() as stack:
        database: Database | None = None
        if dsn := context.config.database.dsn:
            opened = open_database(dsn, context.config.database, program=f"trapline {context.name}", read_only=True)
            database = await stack.enter_async_context(opened)
        window = ChannelWindow(context.connection, DEPTH)
        yield Site(
            context,
            settings,
            expected_of(context.config),
            window,
            Hub(settings.tick_s),
            Pages(),
            Records(context.connection, window),
            database,
        )


@contextlib.contextmanager
def _announced(context: Context, settings: DashboardConfig, listening: socket.socket) -> Iterator[None]:
    """Say where the pages are, in the log and in a file, for as long as they are there."""
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}/"
    if port != settings.port and settings.port:
        context.log.warning("port taken", wanted=settings.port, address=address)
    context.log.info("serving", address=address)
    path = context.config.data_directory / ADDRESS_FILE
    path.write_text(f"{address}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


SERVICE = Service("dashboard", run)
