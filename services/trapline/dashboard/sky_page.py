"""The sky: objects, images and transients on one map, live."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trapline.common.store.population import population
from trapline.dashboard.events import live_rows
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.sky_feed import ROW, Batch, Rows, packed
from trapline.dashboard.units import factor, unit_of

_MOST_OBJECTS = 200_000
_MOST_FIELDS = 60


async def show(request: Request) -> Response:
    """Show the map, and what is on it as tables."""
    site = site_of(request)
    await site.look()
    return await site.render(request, "sky.html", fields=_fields(site), events=_events(site))


async def objects(request: Request) -> Response:
    """Return all objects: a line of JSON with the version, then rows as `packed` lays them out."""
    site = site_of(request)
    version = site.sky.version
    async with site.store() as con:
        found = await population(con, site.context.config.mesh.dataset, None, _MOST_OBJECTS, unit_of(request))
    return _answer({"version": version, "whole": True}, await asyncio.to_thread(_rows_of, found))


async def changes(request: Request) -> Response:
    """Return what changed since a version; ``whole`` is null when too much did: then ask for all."""
    site = site_of(request)
    since = int(request.query_params.get("since", 0))
    complete, batches = site.sky.since(since)
    rows = np.concatenate([_converted(batch, unit_of(request)) for batch in batches] or [np.zeros(0, ROW)])
    if len(batches) > 1:
        # Of an object that changed often the last row is the newest.
        _, last = np.unique(rows["key"][::-1], return_index=True)
        rows = rows[len(rows) - 1 - last]
    said = {"version": site.sky.version, "whole": False if complete else None}
    return _answer(said | {"t_pub_us": batches[-1].t_pub_us if batches else None}, rows)


async def layers(request: Request) -> Response:
    """Return images and transients for the map."""
    site = site_of(request)
    await site.look()
    return Response(json.dumps({"fields": _fields(site), "events": _events(site)}), media_type="application/json")


def _converted(batch: Batch, unit: str | None) -> Rows:
    by = factor(batch.unit, unit)
    if by == 1.0:
        return batch.rows
    rows = batch.rows.copy()
    rows["flux"] *= by
    return rows


def _answer(said: dict[str, Any], rows: Any) -> Response:
    line = json.dumps({**said, "n": len(rows)}).encode()
    line += b" " * (-(len(line) + 1) % 4) + b"\n"
    return Response(line + packed(rows), media_type="application/octet-stream")


def _rows_of(found: Any) -> Any:
    # One row per object: the newest band of each comes first.
    _, first = np.unique(found["key"], return_index=True)
    rows = np.zeros(len(first), ROW)
    for name in ("ra_deg", "dec_deg", "flux", "kind", "key"):
        rows[name] = found[name][first]
    return rows


def _fields(site: Site) -> list[dict[str, Any]]:
    """Return where the newest images look: equal fields once."""
    fields: dict[tuple[float, float], dict[str, Any]] = {}
    for _, header in site.records.images():
        image = header.image
        if image is None or image.centre_ra_deg is None or image.centre_dec_deg is None or not image.radius_deg:
            continue
        key = (round(image.centre_ra_deg, 1), round(image.centre_dec_deg, 1))
        fields[key] = {
            "image": image.id.hex(),
            "ra_deg": image.centre_ra_deg,
            "dec_deg": image.centre_dec_deg,
            "radius_deg": image.radius_deg,
            "unit": image.unit,
            "rejected": image.quality.rejected,
        }
    return list(fields.values())[-_MOST_FIELDS:]


def _events(site: Site) -> list[dict[str, Any]]:
    rows = sorted(live_rows(site.window.of("transients")).values(), key=lambda row: row["t"], reverse=True)
    names = ("kind", "alert_type", "ra_deg", "dec_deg", "significance")
    return [
        {"id": str(row["key"]), "t": row["t"].isoformat(), **{name: row[name] for name in names}} for row in rows[:200]
    ]


ROUTES = [
    Route("/sky", shared(show, "transients")),
    Route("/sky/objects", objects),
    Route("/sky/changes", changes),
    Route("/sky/layers", layers),
]
