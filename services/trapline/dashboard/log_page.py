"""What the services logged, and the records that they could not take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trapline.common.channel import RelayRefusedError, RelayUnreachableError
from trapline.common.ids import text_id
from trapline.common.runtime.dead_letters import take_again
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.tables import list_response
from trapline.schemas.status import DeadLetter

_TAIL_BYTES = 256 << 10
_MOST_LINES = 300
_LEVELS = ("debug", "info", "warning", "error", "critical")
_KNOWN = ("timestamp", "level", "service", "replica", "event")


async def show(request: Request) -> Response:
    """Show the newest lines of all logs, and the newest dead letters."""
    site = site_of(request)
    await site.look()
    lines, services = await asyncio.to_thread(_lines, site, request)
    letters = _letters(site, request)
    return await site.render(
        request, "log.html", lines=lines, services=services, letters=letters, levels=_LEVELS, most=_MOST_LINES
    )


async def log_table(request: Request) -> Response:
    """Return the same lines for programs."""
    lines, _ = await asyncio.to_thread(_lines, site_of(request), request)
    return list_response(request.path_params["form"], "log", lines)


async def letters_table(request: Request) -> Response:
    """Return the dead letters for programs."""
    site = site_of(request)
    await site.look()
    return list_response(request.path_params["form"], "dead-letters", _letters(site, request))


async def replay(request: Request) -> Response:
    """Give the record of a dead letter to the workers of its group again, and go back to the list."""
    site = site_of(request)
    if not site.settings.allow_replay:
        raise HTTPException(403, "nothing is taken again from here: set [dashboard] allow_replay")
    given = parse_qs((await request.body())[:4096].decode(errors="replace"))
    service, place = (given.get(name, [""])[0] for name in ("service", "place"))
    await site.look()
    headers = [e.header for e in site.window.of("dead_letters")]
    found = [h for h in headers if isinstance(h, DeadLetter) and (h.service, str(h.place)) == (service, place)]
    if not found:
        raise HTTPException(404, f"{place!r} of {service!r} is none of the newest dead letters")
    try:
        await take_again(site.context.connection, found[-1])
    except (RelayUnreachableError, RelayRefusedError) as error:
        raise HTTPException(503, str(error)) from None
    site.context.counters["letters_replayed"] += 1
    site.context.log.info("dead letter taken again", place=place, of=service)
    return RedirectResponse(f"/log?replayed={quote(place)}", 303)


def _lines(site: Site, request: Request) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the newest lines that pass the filters, newest first, and which processes have a log."""
    query = request.query_params
    files = sorted((site.context.config.data_directory / "log").glob("*.log"))
    service, text = query.get("service", ""), query.get("text", "").lower()
    least = _LEVELS.index(query["level"]) if query.get("level") in _LEVELS else 0
    found = []
    for path in files:
        if service and path.stem != service:
            continue
        for line in _tail(path):
            level = _LEVELS.index(line["level"]) if line["level"] in _LEVELS else 2
            if level >= least and (not text or text in json.dumps(line, ensure_ascii=False).lower()):
                found.append(line)
    found.sort(key=lambda line: line["timestamp"], reverse=True)
    return found[:_MOST_LINES], [path.stem for path in files]


def _tail(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return
    entry: dict[str, Any] | None = None
    for text in lines[-2000:]:
        found = _entry(text, path.stem)
        if found is None and entry is not None:
            # What is no JSON belongs to the line before it: a fault of the interpreter, or what a plug-in prints.
            _add(entry, text)
        elif found is not None:
            if entry is not None:
                yield entry
            entry = found
    if entry is not None:
        yield entry


def _add(entry: dict[str, Any], text: str) -> None:
    more = entry["more"]
    fault = "exception" in more or text.startswith(("Traceback", "Fatal Python error"))
    key = "exception" if fault else "output"
    more[key] = f"{more.get(key, '')}{text}\n"
    if fault:
        entry["level"] = "error"


def _entry(text: str, process: str) -> dict[str, Any] | None:
    try:
        given = json.loads(text)
    except ValueError:
        return None
    if not isinstance(given, dict):
        return None
    more = {key: value for key, value in given.items() if key not in _KNOWN}
    level, event = str(given.get("level", "info")), str(given.get("event", ""))
    stamp = str(given.get("timestamp", ""))
    return {"timestamp": stamp, "level": level, "process": process, "event": event, "more": more}


def _letters(site: Site, request: Request) -> list[dict[str, Any]]:
    service = request.query_params.get("service", "").rpartition("-")[0]
    groups = {g["group"] for g in (site.window.info or {}).get("groups", ())}
    rows = []
    for entry in site.window.of("dead_letters"):
        letter = entry.header
        if not isinstance(letter, DeadLetter) or (service and letter.service != service):
            continue
        rows.append(
            {
                "t_us": entry.t_us,
                "service": letter.service,
                "place": str(letter.place),
                "channel": letter.place.channel,
                "partition": letter.place.partition,
                "seq": letter.place.seq,
                "image": text_id(letter.image_id) if letter.image_id else None,
                "attempts": letter.attempts,
                "can_be_replayed": letter.service in groups,
                "traceback": letter.traceback,
            }
        )
    return sorted(rows, key=lambda row: -row["t_us"])


ROUTES = [
    Route("/log", shared(show, "dead_letters", "status")),
    Route("/log.{form:plain}", log_table),
    Route("/dead-letters.{form:plain}", letters_table),
    Route("/dead-letters/replay", replay, methods=["POST"]),
]
