"""The first page: is the mesh healthy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trapline.dashboard.core import Health
from trapline.dashboard.events import live_rows
from trapline.dashboard.processes import Process
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import is_alive, site_of
from trapline.dashboard.tables import json_response, list_response

_FOUND = 4
_FEED_ODD = ("rejected", "repeated", "late", "gaps", "missed", "unrecorded", "stream_skipped_bytes", "timeouts")


async def show(request: Request) -> Response:
    """Show the mesh as boxes and arrows, its alarms, and tables of everything."""
    site = site_of(request)
    await site.look()
    found = sorted(live_rows(site.window.of("transients")).values(), key=lambda row: row["key"], reverse=True)
    rows = [row for row in found if row["alert_type"] != "retraction"][:_FOUND]
    return await site.render(request, "health.html", health=site.health(), odd=_FEED_ODD, found=rows)


async def whole(request: Request) -> Response:
    """Return all of it as JSON."""
    site = site_of(request)
    await site.look()
    health = site.health()
    lists = {name: rows(health) for name, rows in LISTS.items()}
    return json_response({"level": health.level, "t_us": health.now_us, "backlog": health.backlog, **lists})


async def one_list(request: Request) -> Response:
    """Return one of the page's lists as JSON or CSV."""
    site = site_of(request)
    what = request.path_params["what"]
    if what not in LISTS:
        raise HTTPException(404, f"there is no list {what!r}; there are {', '.join(LISTS)}")
    await site.look()
    return list_response(request.path_params["form"], what, LISTS[what](site.health()))


async def targets(request: Request) -> Response:
    """Return where each process serves its metrics, as Prometheus asks for it (`http_sd_configs`)."""
    site = site_of(request)
    await site.look()
    reports = [p.report for p in site.health().processes if p.report and p.level in ("good", "busy")]
    host = site.context.config.runtime.health_host
    found = [
        {
            "targets": [f"{host if is_alive(r) else r.host}:{r.health_port}"],
            "labels": {"service": r.service, "replica": r.replica, "host": r.host},
        }
        for r in reports
        if r.health_port
    ]
    return json_response(found)


def _process_row(p: Process) -> dict[str, Any]:
    report = p.report
    return {
        "service": p.service,
        "replica": p.replica,
        "condition": p.condition,
        "since_us": p.since_us,
        "host": report.host if report else None,
        "pid": report.pid if report else None,
        "version": report.version if report else None,
        "started_us": report.started_us if report else None,
        "reported_us": report.t_us if report else None,
        "done": p.done,
        "rate_hz": p.rate_hz,
        "busy": p.busy,
        "lag_records": sum(r.lag_records for r in report.reading) if report else 0,
        "discards": p.discards,
        "restarts": p.restarts,
        "last_error": report.last_error if report else None,
    }


def _processes(health: Health) -> list[dict[str, Any]]:
    return [_process_row(p) for p in health.processes]


def _channels(health: Health) -> list[dict[str, Any]]:
    return [{**msgspec.to_builtins(c), "filled": c.filled} for c in health.channels]


def _feeds(health: Health) -> list[dict[str, Any]]:
    names = sorted({key for feed in health.feeds.values() for key in feed})
    return [{"source": name, **{key: feed.get(key) for key in names}} for name, feed in health.feeds.items()]


def _alarms(health: Health) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(alarm) for alarm in health.alarms]


LISTS: Mapping[str, Any] = {"processes": _processes, "channels": _channels, "feeds": _feeds, "alarms": _alarms}
ROUTES = [
    Route("/", shared(show, "status", "transients")),
    Route("/health.json", whole),
    Route("/prometheus/targets", targets),
    Route("/health/{what}.{form:plain}", one_list),
]
