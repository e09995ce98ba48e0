"""One image: its pixels, its sources, and the images before, after and beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trapline.common.ids import text_id
from trapline.common.postgres.errors import DatabaseError
from trapline.common.sky import unit_vectors
from trapline.common.store.pages import one
from trapline.common.wcs import WcsError, parse_wcs
from trapline.dashboard.events import Row, time_of
from trapline.dashboard.picture import shrunk
from trapline.dashboard.site import Site, site_of
from trapline.dashboard.tables import list_response, plain
from trapline.dashboard.units import converted, factor, unit_of
from trapline.schemas.columns import Array, array_to_ids
from trapline.schemas.image import Band, Image
from trapline.schemas.images import Images
from trapline.schemas.sources import Sources

_MOST_PX = 1024
_GRID = 48


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
    wanted, has_pixels = unit_of(request), entry is not None
    rows = await _sources(site, key, row["unit"], wanted)
    around = {"previous": None, "following": None, "lower": None, "higher": None, **_neighbours(site, key)}
    values: dict[str, Any] = {
        "sources": rows,
        "has_pixels": has_pixels,
        "around": around,
        "factor": factor(row["unit"], wanted),
    }
    return await site.render(request, "image.html", row=converted(row, wanted), **values)


async def sources_table(request: Request) -> Response:
    """Return the sources of an image, as far as their journal goes."""
    site = site_of(request)
    await site.look()
    key = _id(request.path_params["id"])
    entry = site.records.image(key.bytes)
    if entry is None or not isinstance(entry.header, Images) or entry.header.image is None:
        raise HTTPException(404, f"image {key} is in the journal no more; its points are stored: /objects")
    rows = await _sources(site, key, entry.header.image.unit, unit_of(request))
    return list_response(request.path_params["form"], f"sources-{key}", rows)


async def _sources(site: Site, key: UUID, unit: str | None, wanted: str | None) -> list[Row]:
    found = await site.records.sources(key.bytes)
    return [converted({**source, "unit": unit}, wanted) for source in _source_rows(found)]


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


def _neighbours(site: Site, key: UUID) -> dict[str, str | None]:
    """Return ids of the images around one: before and after it in its band, and of its time in the bands about it."""
    known = [h.image for _, h in site.records.images() if h.image and h.image.shape and h.image.t_start_us is not None]
    this = next((image for image in known if image.id == key.bytes), None)
    if this is None:
        return {}
    own = sorted((image for image in known if image.band == this.band), key=_start)
    bands = sorted(
        {image.band for image in known}, key=lambda band: (band.freq_hz or 0.0, band.name) if band else (0.0, "")
    )
    at, b = own.index(this), bands.index(this.band)
    return {
        "previous": text_id(own[at - 1].id) if at else None,
        "following": text_id(own[at + 1].id) if at + 1 < len(own) else None,
        "lower": _at_the_time(known, this, bands[b - 1]) if b else None,
        "higher": _at_the_time(known, this, bands[b + 1]) if b + 1 < len(bands) else None,
    }


def _at_the_time(known: Iterable[Image], this: Image, band: Band | None) -> str:
    """Return the id of the image of a band that is nearest in time."""
    return text_id(min((i for i in known if i.band == band), key=lambda i: abs(_start(i) - _start(this))).id)


def _start(image: Image) -> int:
    return image.t_start_us or 0


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
    Route("/images/{id}", show_one),
    Route("/images/{id}/sources.{form:plain}", sources_table),
    Route("/images/{id}/pixels", pixels),
    Route("/images/{id}/cut.png", cut),
]
