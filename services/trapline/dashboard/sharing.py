"""One answer for all who ask the same at the same moment: ten open pages are rendered once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from trapline.dashboard.site import site_of
from trapline.dashboard.units import unit_of

Endpoint = Callable[[Request], Awaitable[Response]]
_MOST = 256


def shared(endpoint: Endpoint, *topics: str) -> Endpoint:
    """Return an endpoint that makes the live part of a page once for all, in the same state of its topics.

    It is made again when it is older than a tick. Whole pages are made for each who asks: only what open pages pull
    again and again is shared.
    """
    made: dict[tuple[str, int], tuple[float, asyncio.Task[Response]]] = {}

    async def answer(request: Request) -> Response:
        if "x-fragment" not in request.headers:
            return await endpoint(request)
        site, now = site_of(request), time.monotonic()
        # The unit may be one that the browser remembers, and stand in no address.
        key = (f"{request.url} {unit_of(request)}", site.hub.state(topics))
        at, task = made.get(key, (float("-inf"), None))
        if task is None or now - at > site.settings.tick_s or task.cancelled() or (task.done() and task.exception()):
            if len(made) >= _MOST:
                made.clear()
            task = asyncio.create_task(_made(endpoint, request))
            made[key] = (now, task)
        first = await asyncio.shield(task)
        return Response(first.body, first.status_code, media_type=first.media_type)

    return answer


async def _made(endpoint: Endpoint, request: Request) -> Response:
    return await endpoint(request)
