"""Objects: the table, one object with its lightcurve, and the whole population in one diagram."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trapline.common.store.lightcurve import lightcurve
from trapline.common.store.objects import nearest
from trapline.common.store.pages import Filters, page
from trapline.common.store.population import bands_of, population
from trapline.common.store.series import Window
from trapline.dashboard.curves import curves_of
from trapline.dashboard.events import Row, why
from trapline.dashboard.questions import filters_of, paging_of
from trapline.dashboard.site import site_of
from trapline.dashboard.tables import Column, json_response, stored_rows, table_response
from trapline.dashboard.units import all_converted, converted, unit_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR_S = 2e11
_SHOWN = ("n", "n_blind", "flux_mean_weighted", "flux_std", "flux_min", "flux_max", "v", "eta")
COLUMNS = (
    Column("object"), Column("ra_deg", "deg", True), Column("dec_deg", "deg", True),
    Column("pos_err_ew_deg", "deg", True), Column("pos_err_ns_deg", "deg", True), Column("first_seen"),
    Column("last_seen"), Column("kind", "", True), Column("retired"), Column("parent"), Column("name"), Column("band"),
    Column("unit"), Column("n", "", True), Column("n_blind", "", True), Column("flux_mean", "", True),
    Column("flux_mean_weighted", "", True), Column("flux_std", "", True), Column("flux_min", "", True),
    Column("flux_max", "", True), Column("v", "", True), Column("eta", "", True),
)  # fmt: skip
_NEIGHBOURS_DEG = 1.0
_MOST_NEIGHBOURS = 12
_PICTURES = 8

_MOST_ROWS = 100_000
"""of a lightcurve; where there are more, bins are shown"""
MOST_OBJECTS = 300_000
"""rows of the diagram, the newest"""


async def show_list(request: Request) -> Response:
    """Show a page of objects, a row per band."""
    site, query = site_of(request), request.query_params
    dataset = site.context.config.mesh.dataset
    filters = filters_of(query, dataset, unit_of(request))
    async with site.store() as con:
        rows = await page(con, "objects", filters, limit=site.settings.page_rows, **paging_of(query))
        bands = await bands_of(con, dataset)
    rows = all_converted(rows, unit_of(request))
    chosen = [name for name in query.getlist("column") if name in _SHOWN] or list(_SHOWN)
    more = len(rows) >= site.settings.page_rows
    return await site.render(request, "objects.html", rows=rows, more=more, bands=bands, shown=_SHOWN, chosen=chosen)


async def download(request: Request) -> Response:
    """Return all objects that pass the filters, a row per band."""
    site = site_of(request)
    filters = filters_of(request.query_params, site.context.config.mesh.dataset, unit_of(request))
    return table_response(
        request.path_params["form"], "objects", COLUMNS, await stored_rows(request, "objects", filters)
    )


async def show_one(request: Request) -> Response:
    """Show one object: lightcurve, statistics per band, transients, neighbours, forks."""
    site = site_of(request)
    await site.look()
    key = _id(request.path_params["id"])
    dataset = site.context.config.mesh.dataset
    async with site.store() as con:
        states = await page(con, "objects", Filters(object=key), limit=100)
        if not states:
            raise HTTPException(404, f"no object {key} is stored")
        events = await page(con, "transients", Filters(object=key), limit=50)
        at = states[0]
        near = await nearest(con, at["ra_deg"], at["dec_deg"], _NEIGHBOURS_DEG, _MOST_NEIGHBOURS + 1, dataset)
        children = (
            await con.fetch("SELECT _id FROM object WHERE parent = $1 ORDER BY _id", key) if at["retired"] else []
        )
    for event in events:
        event["reason"] = msgspec.json.decode(event["reason"])
        event["why"] = why(converted(event, unit_of(request)))
    others = [o for o in near if o.object != key][:_MOST_NEIGHBOURS]
    return await site.render(
        request,
        "object.html",
        at=at,
        states=all_converted(sorted(states, key=lambda s: str(s["band"])), unit_of(request)),
        events=events,
        neighbours=others,
        pictures=site.records.covering(at["ra_deg"], at["dec_deg"], _PICTURES),
        children=[row["_id"] for row in children],
    )


async def curve(request: Request) -> Response:
    """Return the lightcurve of an object, column by column, band by band.

    With `most` it has at most so many points per band: means of neighbouring points, and it says so. `since` and
    `until` (s since 1970-01-01 UTC) narrow it, so that a zoom shows what is really there.
    """
    site, query = site_of(request), request.query_params
    key = _id(request.path_params["id"])
    most = int(query.get("most", 4000))
    since, until = float(query.get("since", "-inf")), float(query.get("until", "inf"))
    window = Window(_moment(since), _moment(until))
    try:
        async with site.store() as con:
            points = await lightcurve(con, key.bytes, window=window, most=_MOST_ROWS)
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    curves = await asyncio.to_thread(curves_of, points, most, since, until)
    return json_response({"object": str(key), "bands": all_converted(curves, unit_of(request))})


def _moment(seconds: float) -> datetime | None:
    """Return a time since 1970-01-01 UTC; None for what is without end."""
    return _EPOCH + timedelta(seconds=seconds) if abs(seconds) < _FAR_S else None


async def points_table(request: Request) -> Response:
    """Return all points of an object as JSON, CSV or VOTable."""
    site = site_of(request)
    key = _id(request.path_params["id"])
    try:
        async with site.store() as con:
            found = await lightcurve(con, key.bytes, resolution="point")
    except LookupError as error:
        raise HTTPException(404, str(error)) from None
    points = all_converted(found.rows(), unit_of(request))
    columns = [Column(name, "", isinstance(value, (int, float))) for name, value in points[0].items()] if points else []

    async def rows() -> AsyncIterator[Row]:
        for point in points:
            yield point

    return table_response(request.path_params["form"], f"lightcurve-{key}", columns, rows())


async def diagram(request: Request) -> Response:
    """Show eta against V of all objects."""
    site = site_of(request)
    async with site.store() as con:
        bands = await bands_of(con, site.context.config.mesh.dataset)
    return await site.render(request, "population.html", bands=bands, most=MOST_OBJECTS)


async def diagram_data(request: Request) -> Response:
    """Return the population as float32 rows (v, eta, flux, n) and, behind them, the 16 bytes of each object's id."""
    site = site_of(request)
    band = request.query_params.get("band") or None
    async with site.store() as con:
        rows = await population(con, site.context.config.mesh.dataset, band, MOST_OBJECTS, unit_of(request))
    return Response(await asyncio.to_thread(_packed, rows), media_type="application/octet-stream")


def _packed(rows: Any) -> bytes:
    numbers = np.empty((len(rows), 4), "<f4")
    for i, name in enumerate(("v", "eta", "flux", "n")):
        numbers[:, i] = rows[name]
    ids: bytes = np.ascontiguousarray(rows["key"]).tobytes()
    return numbers.tobytes() + ids


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise HTTPException(404, f"{text!r} is no id of an object") from None


ROUTES = [
    Route("/objects", show_list),
    Route("/objects.{form:form}", download),
    Route("/objects/population", diagram),
    Route("/objects/population.bin", diagram_data),
    Route("/objects/{id}", show_one),
    Route("/objects/{id}/curve", curve),
    Route("/objects/{id}/lightcurve.{form:form}", points_table),
]
