"""The web server: routes, ticks to open pages, and an end that no viewer can hold up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from trapline.common.postgres.errors import DatabaseError
from trapline.dashboard import health_page, image_page, images_page, log_page, objects_page, sky_page, transients_page
from trapline.dashboard.access import COOKIE, LOGIN, Access, session_of
from trapline.dashboard.rendering import HERE
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.sky_feed import TOPIC

_GRACE_S = 1
_WAIT_S = 1.0
_FAST_S = 0.08


def routes() -> list[BaseRoute]:
    """Return all addresses that are served."""
    return [
        *health_page.ROUTES,
        *transients_page.ROUTES,
        *objects_page.ROUTES,
        *images_page.ROUTES,
        *image_page.ROUTES,
        *sky_page.ROUTES,
        *log_page.ROUTES,
        Route("/events", events),
        Route("/livez", lambda _: PlainTextResponse("alive\n")),
        Route(LOGIN, login, methods=["GET", "POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static"), name="static"),
    ]


def application(site: Site) -> Starlette:
    """Return the web application."""
    app = Starlette(
        routes=routes(),
        middleware=[Middleware(Access, settings=site.settings)],
        exception_handlers={
            DatabaseError: _no_store,
            HTTPException: _wrong,
            ValueError: _bad_value,
            Exception: _failed,
        },
    )
    app.state.site = site
    return app


async def serve(site: Site, listening: socket.socket) -> None:
    """Serve until the service drains."""
    config = uvicorn.Config(
        application(site),
        lifespan="off",
        log_config=None,
        log_level="critical",  # what fails is in our own log
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=30,
        server_header=False,
        proxy_headers=False,  # who asks is who is connected: `Access` knows the proxies
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    draining = asyncio.create_task(site.context.draining.wait())
    await asyncio.wait({serving, draining}, return_when=asyncio.FIRST_COMPLETED)
    site.hub.close()
    server.should_exit = True
    draining.cancel()
    await serving


async def follow(site: Site) -> None:
    """While a page is open, read what the mesh says and tell the pages; else do nothing at all."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow_headers(site), name="follow headers")
        tasks.create_task(site.sky.follow(site.context.connection, site.hub), name="follow the sky")


async def _follow_headers(site: Site) -> None:
    while True:
        await site.hub.somebody()
        news = await site.refresh(_WAIT_S)
        if site.relay_error:
            await asyncio.sleep(_WAIT_S)
        site.hub.bump(news)
        await asyncio.sleep(site.settings.tick_s / 2)


class _Server(uvicorn.Server):
    """Leaves signals to the runtime: the first drains, the second ends at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def events(request: Request) -> Response:
    """Stream ticks: one line of versions whenever a channel that the page is about has news."""
    site = site_of(request)
    known = {*site.window.depth, TOPIC}
    topics = frozenset(request.query_params.get("topics", "status").split(",")) & known
    if not topics:
        raise ValueError(f"topics: choose some of {', '.join(sorted(known))}")
    hub = site.hub
    every = request.query_params.get("every") or "0"
    # A map pulls only what changed: it may do so more often than a page that is made anew.
    every_s = _FAST_S if every == "fast" else max(site.settings.tick_s, float(every))

    async def lines() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        async for versions in hub.ticks(topics, every_s):
            yield f"data: {json.dumps(versions)}\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


async def login(request: Request) -> Response:
    """Ask for the token, and remember in a cookie that it was shown."""
    site = site_of(request)
    token = site.settings.token
    if token is None:
        return RedirectResponse("/", 303)
    if request.method == "GET":
        return await site.render(request, "login.html", error="")
    body = (await request.body())[:4096].decode(errors="replace")
    from urllib.parse import parse_qs

    shown = parse_qs(body).get("token", [""])[0].strip()
    if session_of(shown) != session_of(token.get_secret_value()):
        site.context.counters["logins_refused"] += 1
        return await site.render(request, "login.html", 401, error="That is not the token of this dashboard.")
    answer = RedirectResponse("/", 303)
    secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    answer.set_cookie(COOKIE, session_of(shown), max_age=30 * 86400, httponly=True, samesite="strict", secure=secure)
    return answer


async def _no_store(request: Request, error: Exception) -> Response:
    """Say that the store does not answer: the health page works all the same."""
    return await _explained(request, 503, "The store does not answer", str(error))


async def _wrong(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {404: "There is nothing here", 405: "This cannot be done here"}
    return await _explained(request, error.status_code, titles.get(error.status_code, "Not possible"), error.detail)


async def _bad_value(request: Request, error: Exception) -> Response:
    return await _explained(request, 400, "This cannot be asked", str(error))


async def _failed(request: Request, error: Exception) -> Response:
    """Log a fault of ours; the service lives."""
    site = site_of(request)
    site.context.counters["pages_failed"] += 1
    site.context.log.error("page failed", path=request.url.path, exc_info=error)
    return await _explained(
        request, 500, "This page failed", f"{type(error).__name__}: the log of the dashboard has it"
    )


async def _explained(request: Request, status: int, title: str, text: str) -> Response:
    if "text/html" not in request.headers.get("accept", "") and "x-fragment" not in request.headers:
        return PlainTextResponse(f"{text}\n", status)
    return await site_of(request).render(request, "error.html", status, title=title, text=text)
