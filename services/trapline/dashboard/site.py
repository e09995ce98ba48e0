"""What every page needs: the mesh, the store, who is watching, and how to render."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from trapline.common.channel import RelayRefusedError, RelayUnreachableError
from trapline.common.journal import now_us
from trapline.common.postgres.connection import Connection, Database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.runtime.context import Context
from trapline.dashboard.config import DashboardConfig
from trapline.dashboard.core import Expected, Health, health_of
from trapline.dashboard.hub import Hub
from trapline.dashboard.records import Records
from trapline.dashboard.rendering import Pages
from trapline.dashboard.sky_feed import SkyFeed
from trapline.dashboard.units import CHOICES, unit_of
from trapline.dashboard.window import ChannelWindow
from trapline.schemas.status import Status

_HOST = socket.gethostname()


class StoreMissingError(DatabaseError):
    """There is no store to ask. The text says what to set."""


@dataclass
class Site:
    """One per process; requests find it as ``request.app.state.site``."""

    context: Context
    settings: DashboardConfig
    expected: Expected
    window: ChannelWindow
    hub: Hub
    pages: Pages
    records: Records
    database: Database | None = None
    sky: SkyFeed = field(default_factory=SkyFeed)
    relay_error: str = ""
    _refreshed_us: int = field(default=0)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Connection]:
        """Lend a connection to the store.

        Raises
        ------
        DatabaseError
            When there is none, or it does not answer.
        """
        if self.database is None:
            raise StoreMissingError("no store is configured for this page: set [database] dsn")
        async with self.database.connection() as con:
            yield con

    async def look(self, oldest_s: float = 0.5) -> None:
        """Read what the mesh said since, unless that was read a moment ago. Whether it failed is in `relay_error`."""
        if self.hub.viewers and now_us() - self._refreshed_us < 1e6 * oldest_s:
            return
        await self.refresh()

    async def refresh(self, wait_s: float = 0.0) -> set[str]:
        """Read what the mesh says next, and return the channels that have news."""
        try:
            news = await self.window.refresh(wait_s)
        except (RelayUnreachableError, RelayRefusedError) as error:
            self.relay_error = str(error)
            self.context.trouble(error)
            return {"status"}
        self.relay_error = ""
        self.context.fine()
        self._refreshed_us = now_us()
        return news

    def health(self) -> Health:
        """Return how the mesh is, by what was read last."""
        reports = {
            name: [entry.header for entry in entries if isinstance(entry.header, Status)]
            for name, entries in self.window.partitions("status").items()
        }
        info = None if self.relay_error else self.window.info
        return health_of(reports, info, now_us(), self.expected, is_alive)

    async def render(self, request: Request, name: str, /, status: int = 200, **values: Any) -> Response:
        """Return a page, or only its live part when the page itself asks for that."""
        fragment = "x-fragment" in request.headers
        level = "bad" if self.relay_error else self.health().level if not fragment else ""
        text = self.pages.render(
            name,
            fragment=fragment,
            request=request,
            site_level=level,
            settings=self.settings,
            unit=unit_of(request) if status == HTTPStatus.OK else None,
            units=CHOICES,
            dataset=self.context.config.mesh.dataset,
            now_us=now_us(),
            path=request.url.path,
            query=request.query_params,
            **values,
        )
        return HTMLResponse(text, status)


def site_of(request: Request) -> Site:
    """Return the site that a request came to."""
    return cast("Site", request.app.state.site)


def is_alive(report: Status) -> bool | None:
    """Tell whether the process of a report runs; None when it is on another host."""
    if report.host != _HOST:
        return None
    try:
        os.kill(report.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
