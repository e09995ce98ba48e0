"""Images: the list with what was wrong, the noise in the course of time, and one image with its sources."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trapline.common.ids import text_id
from trapline.common.store.pages import page
from trapline.common.store.population import bands_of
from trapline.dashboard.questions import filters_of, paging_of
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.tables import Column, json_response, stored_rows, table_response
from trapline.dashboard.units import all_converted, unit_of
from trapline.schemas.image import Image
from trapline.schemas.sources import Sources

COLUMNS = (
    Column("image"), Column("t"), Column("exposure_s", "s", True), Column("instrument"), Column("band"),
    Column("freq_hz", "Hz", True), Column("bandwidth_hz", "Hz", True), Column("filter"), Column("stokes"),
    Column("unit"), Column("noise", "", True), Column("nx", "pix", True), Column("ny", "pix", True),
    Column("centre_ra_deg", "deg", True), Column("centre_dec_deg", "deg", True), Column("radius_deg", "deg", True),
    Column("beam_major_deg", "deg", True), Column("beam_minor_deg", "deg", True), Column("beam_pa_deg", "deg", True),
    Column("role"), Column("rejected"), Column("reasons"), Column("flags"), Column("origin"),
)  # fmt: skip
_NOISE_ROWS = 2000


async def show_list(request: Request) -> Response:
    """Show a page of images."""
    site, query = site_of(request), request.query_params
    await site.look()
    dataset = site.context.config.mesh.dataset
    limit = site.settings.page_rows
    async with site.store() as con:
        rows = await page(con, "images", filters_of(query, dataset), limit=limit, **paging_of(query))
        bands = await bands_of(con, dataset)
    counts = {image.id: count for image, count in _source_counts(site)}
    rows = all_converted(rows, unit_of(request))
    for row in rows:
        row["reasons"] = msgspec.json.decode(row["reasons"])
        row["sources"] = counts.get(row["image"].bytes)
    return await site.render(request, "images.html", rows=rows, more=len(rows) >= limit, bands=bands)


async def download(request: Request) -> Response:
    """Return all images that pass the filters."""
    site = site_of(request)
    filters = filters_of(request.query_params, site.context.config.mesh.dataset)
    return table_response(request.path_params["form"], "images", COLUMNS, await stored_rows(request, "images", filters))


async def noise(request: Request) -> Response:
    """Return the noise of the newest images as columns per band, as the lightcurve plot takes them."""
    site = site_of(request)
    filters = filters_of(request.query_params, site.context.config.mesh.dataset)
    async with site.store() as con:
        rows = await page(con, "images", filters, limit=_NOISE_ROWS)
    bands: dict[str, dict[str, Any]] = {}
    for row in reversed(rows):
        if row["noise"] is None or row["t"] is None:
            continue
        empty = {"name": row["band"], "unit": row["unit"], "t": [], "flux": [], "err": [], "kind": []}
        band = bands.setdefault(row["band"], empty)
        values = {"t": row["t"].timestamp(), "flux": row["noise"], "err": None, "kind": int(row["rejected"])}
        for key, value in values.items():
            band[key].append(value)
    return json_response({"bands": all_converted(bands.values(), unit_of(request))})


async def numbers(request: Request) -> Response:
    """Return how many sources the newest images have, as far as their journal goes, in columns as `noise` does."""
    site = site_of(request)
    await site.look()
    wanted = request.query_params.get("band")
    bands: dict[str, dict[str, Any]] = {}
    for image, count in sorted(_source_counts(site), key=lambda item: item[0].t_start_us or 0):
        band = image.band.name if image.band else ""
        if image.t_start_us is None or (wanted and wanted != band):
            continue
        columns = bands.setdefault(band, {"name": band, "unit": "sources", "t": [], "flux": [], "err": [], "kind": []})
        values = {"t": image.t_start_us / 1e6, "flux": count, "err": None, "kind": int(image.quality.rejected)}
        for key, value in values.items():
            columns[key].append(value)
    return json_response({"bands": list(bands.values())})


async def latest(request: Request) -> Response:
    """Go to the newest image that has pixels, of a band or of any."""
    site = site_of(request)
    await site.look()
    band = request.query_params.get("band")
    newest = None
    for entry, header in site.records.images():
        image = header.image
        fits = image and image.shape and (not band or (image.band and image.band.name == band))
        if fits and (newest is None or entry.t_us >= newest[0]):
            newest = (entry.t_us, header)
    if newest is None or newest[1].image is None:
        raise HTTPException(404, "the journal holds no image with pixels now")
    return RedirectResponse(f"/images/{text_id(newest[1].image.id)}", 307, headers={"Cache-Control": "no-store"})


def _source_counts(site: Site) -> list[tuple[Image, int]]:
    """Return how many sources were found blindly and otherwise, by image, as far as the window goes."""
    counts: dict[bytes, int] = {}
    images: dict[bytes, Image] = {}
    for entry in site.window.of("sources"):
        if isinstance(entry.header, Sources):
            n = next((f.shape[0] for f in entry.header.frames if f.shape), 0)
            image = entry.header.image
            images[image.id] = image
            counts[image.id] = counts.get(image.id, 0) + n
    return [(images[key], count) for key, count in counts.items()]


ROUTES = [
    Route("/images", shared(show_list, "images", "sources")),
    Route("/images.{form:form}", download),
    Route("/images/noise", noise),
    Route("/images/numbers", numbers),
    Route("/images/latest", latest),
]
