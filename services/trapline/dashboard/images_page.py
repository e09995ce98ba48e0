"""Images: the list with what was wrong, the noise in the course of time, and one image with its sources."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trapline.common.ids import text_id
from trapline.common.postgres.errors import DatabaseError
from trapline.common.sky import unit_vectors
from trapline.common.store.pages import one, page
from trapline.common.store.population import bands_of
from trapline.common.wcs import WcsError, parse_wcs
from trapline.dashboard.events import Row, time_of
from trapline.dashboard.picture import shrunk
from trapline.dashboard.questions import filters_of, paging_of
from trapline.dashboard.sharing import shared
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.tables import Column, json_response, plain, stored_rows, table_response
from trapline.dashboard.units import all_converted, converted, factor, unit_of
from trapline.schemas.columns import Array, array_to_ids
from trapline.schemas.image import Image
from trapline.schemas.images import Images
from trapline.schemas.sources import Sources

COLUMNS = (
    Column("image"), Column("t"), Column("exposure_s", "s", True), Column("instrument"), Column("band"),
    Column("freq_hz", "Hz", True), Column("bandwidth_hz", "Hz", True), Column("filter"), Column("stokes"),
    Column("unit"), Column("noise", "", True), Column("nx", "pix", True), Column("ny", "pix", True),
    Column("centre_ra_deg", "deg", True), Column("centre_dec_deg", "deg", True), Column("radius_deg", "deg", True),
    Column("beam_major_deg", "deg", True), Column("beam_minor_deg", "deg", True), Column("beam_pa_deg", "deg", True),
    Column("role"), Column("rejected"), Column("reasons"), Column("flags"), Column("origin"),
)  # fmt: skip
_MOST_PX = 1024
_GRID = 48
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


async def show_one(request: Request) -> Response:
    """Show one image with its sources, and where the ones before and after it are."""
    site = site_of(request)
    await site.look()
    key = _id(request.path_params["id"])
    entry = site.records.image(key.bytes)
    row: Row | None = None
    try:
        async with site.store() as con:
            row = await one(con, "images", key)
    except DatabaseError:
        if entry is None:
            raise
    if row is not None:
        row["reasons"] = msgspec.json.decode(row["reasons"])
    elif entry is not None and isinstance(entry.header, Images) and entry.header.image is not None:
        row = _row_of(entry.header)
    else:
        raise HTTPException(404, f"no image {key} is known")
    found = await site.records.sources(key.bytes)
    around = _neighbours(site, key)
    wanted, has_pixels = unit_of(request), entry is not None
    rows = [converted({**source, "unit": row["unit"]}, wanted) for source in _source_rows(found)]
    values: dict[str, Any] = {
        "sources": rows,
        "has_pixels": has_pixels,
        "around": around,
        "factor": factor(row["unit"], wanted),
    }
    return await site.render(request, "image.html", row=converted(row, wanted), **values)


async def pixels(request: Request) -> Response:
    """Return an image for the viewer: a line of JSON, then float32 pixels, first row at the bottom.

    The line says their shape, how many pixels were averaged into one, and unit vectors to the sky on a coarse grid, by
    which the viewer tells positions.
    """
    site = site_of(request)
    if not site.window.versions:
        await site.look()
    found = await site.records.pixels(_id(request.path_params["id"]).bytes)
    if found is None:
        raise HTTPException(404, "the pixels of this image are in the journal no more")
    most = min(_MOST_PX, int(request.query_params.get("most", _MOST_PX)))
    body = await asyncio.to_thread(_viewable, found[0], found[1], most)
    return Response(body, media_type="application/octet-stream", headers={"Cache-Control": "private, max-age=3600"})


def _viewable(header: Images, full: Any, most: int) -> bytes:
    small, block = shrunk(full, most)
    ny, nx = full.shape
    said: dict[str, Any] = {"nx": small.shape[1], "ny": small.shape[0], "block": block, "grid": None}
    try:
        wcs = parse_wcs((header.image and header.image.wcs) or "")
        x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, _GRID), np.linspace(-0.5, ny - 0.5, _GRID))
        vectors = unit_vectors(*wcs.to_sky(x, y))
        east, north = wcs.axes_at((nx - 1) / 2, (ny - 1) / 2)[0]
        said["grid"] = [None if v != v else round(v, 7) for v in vectors.ravel().tolist()]  # noqa: PLR0124
        said["n"] = _GRID
        said["up"] = [*north.tolist(), *east.tolist()]
    except WcsError as error:
        said["trouble"] = str(error)
    line = json.dumps(said).encode()
    line += b" " * (-(len(line) + 1) % 4) + b"\n"
    return line + np.ascontiguousarray(small, "<f4").tobytes()


def _row_of(header: Images) -> Row:
    """Return the row that the store will have of an image."""
    image = header.image
    assert image is not None
    shape, beam = image.shape or (None, None), image.beam
    return {
        "image": UUID(bytes=image.id), "t": time_of(image.t_start_us), "exposure_s": image.exposure_s,
        "instrument": image.instrument, "band": image.band.name if image.band else None, "unit": image.unit,
        "noise": image.noise, "nx": shape[1], "ny": shape[0], "centre_ra_deg": image.centre_ra_deg,
        "centre_dec_deg": image.centre_dec_deg, "radius_deg": image.radius_deg, "role": image.role,
        "beam_major_deg": beam.major_deg if beam else None, "beam_minor_deg": beam.minor_deg if beam else None,
        "beam_pa_deg": beam.pa_deg if beam else None, "rejected": image.quality.rejected, "origin": image.origin,
        "reasons": [msgspec.to_builtins(r) for r in image.quality.reasons], "flags": image.quality.flags,
        "stokes": image.stokes,
    }  # fmt: skip


def _neighbours(site: Site, key: UUID) -> dict[str, Any]:
    """Return ids of the images around one: before and after in its band, and at the same time in the next band."""
    known = [h.image for _, h in site.records.images() if h.image and h.image.shape and h.image.t_start_us is not None]
    this = next((image for image in known if image.id == key.bytes), None)
    if this is None:
        return {"previous": None, "following": None, "other": None}
    known.sort(key=lambda image: (image.t_start_us or 0, image.band.name if image.band else ""))
    band = [image for image in known if image.band == this.band]
    at = band.index(this)
    others = [image for image in known if image.band != this.band]
    nearest = min(others, key=lambda i: abs((i.t_start_us or 0) - (this.t_start_us or 0)), default=None)
    return {
        "previous": text_id(band[at - 1].id) if at else None,
        "following": text_id(band[at + 1].id) if at + 1 < len(band) else None,
        "other": text_id(nearest.id) if nearest else None,
    }


def _source_rows(found: list[tuple[Sources, Mapping[str, Array]]]) -> list[Row]:
    rows = []
    for _, arrays in found:
        names = ("x", "y", "ra_deg", "dec_deg", "flux_peak", "flux_int", "flux_int_err", "snr", "kind", "flags")
        columns: Any = zip(*(arrays[name].tolist() for name in names), strict=True)
        objects = array_to_ids(arrays["object_id"])
        for values, object_id in zip(columns, objects, strict=True):
            row: Row = dict(zip(names, values, strict=True))
            row["object"] = text_id(object_id) if any(object_id) else None
            rows.append(row)
    return sorted(plain(rows), key=lambda row: -(row["snr"] or 0.0))


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


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise HTTPException(404, f"{text!r} is no id of an image") from None


async def cut(request: Request) -> Response:
    """Return a picture of the surroundings of a position in an image."""
    site, query = site_of(request), request.query_params
    if not site.window.versions:
        await site.look()
    key = _id(request.path_params["id"])
    made = await site.records.cut(key.bytes, float(query.get("ra_deg", "nan")), float(query.get("dec_deg", "nan")))
    if made is None:
        return Response(status_code=204)
    return Response(made, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})


ROUTES = [
    Route("/images", shared(show_list)),
    Route("/images.{form:form}", download),
    Route("/images/noise", noise),
    Route("/images/numbers", numbers),
    Route("/images/latest", latest),
    Route("/images/{id}", show_one),
    Route("/images/{id}/pixels", pixels),
    Route("/images/{id}/cut.png", cut),
]
