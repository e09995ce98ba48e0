"""What was found: the newest transients, why, and what people make of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from uuid import UUID

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trapline.common.ids import fact_id
from trapline.common.journal import now_us
from trapline.common.postgres.errors import DatabaseError
from trapline.common.runtime.publishing import publish
from trapline.common.store.pages import Filters, one, page
from trapline.dashboard.access import person_of
from trapline.dashboard.events import Row, joined, live_rows, said, why
from trapline.dashboard.questions import filters_of, paging_of
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.tables import Column, plain, stored_pages, table_response
from trapline.dashboard.units import all_converted, converted, unit_of
from trapline.dashboard.window import Entry
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients
from trapline.schemas.triage import SCHEMA, Triage

COLUMNS = (
    Column("transient"), Column("object"), Column("image"), Column("t"), Column("kind"), Column("alert_type"),
    Column("role"), Column("ra_deg", "deg", True), Column("dec_deg", "deg", True),
    Column("pos_err_ew_deg", "deg", True), Column("pos_err_ns_deg", "deg", True), Column("band"),
    Column("flux_peak", "", True), Column("flux_peak_err", "", True), Column("unit"),
    Column("significance", "", True), Column("reason"), Column("verdict"), Column("note"), Column("person"),
)  # fmt: skip
_MOST = 4096  # bytes of a verdict


async def show_list(request: Request) -> Response:
    """Show the newest events, or a page of older ones."""
    site = site_of(request)
    await site.look()
    filters = filters_of(request.query_params, site.context.config.mesh.dataset)
    rows, trouble, more = await _page(site, filters, request.query_params)
    recent = await asyncio.gather(*(site.records.recent(row["place"]) for row in rows))
    entries = _entries(site)
    for row, points in zip(rows, recent, strict=True):
        row["spark"] = points["flux_int"].tolist() if "flux_int" in points else []
        row["pictured"] = site.records.has_stamp(entries.get(row["key"]), row["image"].bytes)
    rows = all_converted(rows, unit_of(request))
    for row in rows:
        row["why"] = why(row)
    return await site.render(request, "transients.html", rows=rows, trouble=trouble, more=more)


async def _page(site: Site, filters: Filters, query: Mapping[str, str]) -> tuple[list[Row], str, bool]:
    """Return a page, why it has only what the channels still hold if the store does not answer, and if more follow."""
    paging = paging_of(query)
    stored: list[Row] = []
    trouble = ""
    try:
        async with site.store() as con:
            stored = await page(con, "transients", filters, limit=site.settings.page_rows, **paging)
    except DatabaseError as error:
        trouble = str(error)
    newest = paging["before"] is None and paging["after"] is None
    live, verdicts = live_rows(site.window.of("transients")), said(site.window.of("triage"))
    # What the channels changed may fit the filters no more: that does not end the list.
    more = len(stored) >= site.settings.page_rows
    if paging["order"] and not trouble:
        # What only the channel has yet finds its place in a sorted list when it is stored, a moment later.
        return joined(stored, live, verdicts, filters, newest=False, by_key=False), trouble, more
    return joined(stored, live, verdicts, filters, newest=newest)[: site.settings.page_rows], trouble, more


async def download(request: Request) -> Response:
    """Return all events that pass the filters, as JSON, CSV or VOTable."""
    site = site_of(request)
    await site.look()
    filters = filters_of(request.query_params, site.context.config.mesh.dataset)
    unit, order = unit_of(request), paging_of(request.query_params)["order"]
    async with site.store():  # refused here, and not in the middle of a file
        pass

    async def rows() -> AsyncIterator[Row]:
        newest = order is None
        async for found in stored_pages(site, "transients", filters, order):
            live, verdicts = live_rows(site.window.of("transients")), said(site.window.of("triage"))
            for row in joined(found, live, verdicts, filters, newest=newest, by_key=order is None):
                yield converted(row, unit)
            newest = False

    return table_response(request.path_params["form"], "transients", COLUMNS, rows())


async def show_one(request: Request) -> Response:
    """Show one event: why, where, its lightcurve, and the verdicts on it."""
    site = site_of(request)
    await site.look()
    row = await _event(site, request.path_params["id"])
    points = await site.records.recent(row["place"])
    curve = {name: points[name].tolist() for name in ("t_us", "flux_int", "flux_int_err", "kind") if name in points}
    row["pictured"] = site.records.has_stamp(_entries(site).get(row["key"]), row["image"].bytes)
    curve, row = (converted(one, unit_of(request)) for one in ({**curve, "unit": row["unit"]}, row))
    return await site.render(request, "transient.html", row=row, curve=plain(curve), why=why(row))


async def cutout(request: Request) -> Response:
    """Return a picture of the sky about an event."""
    site = site_of(request)
    if not site.window.versions:
        await site.look()
    row = await _event(site, request.path_params["id"])
    entry = _entries(site).get(row["key"])
    made = await site.records.stamp(row["key"], entry, row["image"].bytes, row["ra_deg"], row["dec_deg"])
    if made is None:
        # The image is in the journal no more, and the event came without a cut-out.
        return Response(status_code=204)
    return Response(made, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


async def judge(request: Request) -> Response:
    """Publish a verdict on `triage`."""
    site = site_of(request)
    if not site.settings.allow_triage:
        raise HTTPException(403, "verdicts are not taken here: set [dashboard] allow_triage")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "a verdict is a JSON object with verdict, note and person")
    row = await _event(site, request.path_params["id"])
    body = await request.body()
    header = _verdict(site, row, body[:_MOST], person_of(request.headers, site.settings))
    places = await publish(site.context, [Message(header)])
    await site.context.outputs.sync()
    await site.refresh()
    site.hub.bump(["triage"])
    return JSONResponse({"place": str(places[0]), "verdict": header.verdict, "note": header.note})


def _verdict(site: Site, row: Row, body: bytes, person: str) -> Triage:
    """Return the message of a verdict, or raise `ValueError` that says what is wrong with it."""
    try:
        given = msgspec.json.decode(body, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ValueError(f"a verdict is a JSON object of texts: {error}") from None
    if unknown := set(given) - {"verdict", "note", "person"}:
        raise ValueError(f"a verdict has no {', '.join(sorted(unknown))}; it has verdict, note, person")
    t_us, event = now_us(), row["key"].bytes
    fields = {
        "schema": SCHEMA,
        "event_id": event,
        "object_id": row["object"].bytes,
        "verdict": given.get("verdict", ""),
        "note": given.get("note", ""),
        "person": person or given.get("person", ""),
        "t_us": t_us,
        "dataset": site.context.config.mesh.dataset,
    }
    fields["id"] = fact_id(t_us, "triage", event, *(fields[name] for name in ("verdict", "note", "person")))
    try:
        return msgspec.convert(fields, Triage, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise ValueError(f"verdict: {error}") from None


async def _event(site: Site, text: str) -> Row:
    """Return one event, by what the channel or the store knows of it.

    Raises
    ------
    HTTPException
        When nobody knows it.
    """
    try:
        key = UUID(text)
    except ValueError:
        raise HTTPException(404, f"{text!r} is no id of an event") from None
    live, verdicts = live_rows(site.window.of("transients")), said(site.window.of("triage"))
    known = {key: live[key]} if key in live else {}
    stored: list[Row] = []
    if not known or not known[key]["opening"] or key not in verdicts:
        try:
            async with site.store() as con:
                stored = [row] if (row := await one(con, "transients", key)) else []
        except DatabaseError:
            if not known:
                raise
    rows = joined(stored, known, verdicts, Filters(), newest=True) or list(known.values())
    if not rows:
        raise HTTPException(404, f"no event {text} is known")
    return rows[0]


def _entries(site: Site) -> dict[UUID, Entry]:
    """Return the newest record of each event, by its id."""
    found = ((e, e.header) for e in site.window.of("transients"))
    return {UUID(bytes=header.event_id): e for e, header in found if isinstance(header, Transients)}


ROUTES = [
    Route("/transients", shared(show_list, "transients", "triage")),
    Route("/transients.{form:form}", download),
    Route("/transients/{id}", show_one),
    Route("/transients/{id}/cutout.png", cutout),
    Route("/transients/{id}/verdict", judge, methods=["POST"]),
]
