"""Rows of `image`: what the headers on `images` say, of measured and rejected ones alike."""

from __future__ import annotations

from typing import Any

import msgspec

from trapline.database_dumper.values import as_integer, as_text, as_time, as_uuid, dataset_id
from trapline.schemas.image import Band, Beam, Image
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import Lightcurves

COLUMNS = (
    "_id", "dataset", "t", "exposure_s", "instrument", "band", "freq_hz", "bandwidth_hz", "filter", "stokes", "unit",
    "noise", "nx", "ny", "centre_ra_deg", "centre_dec_deg", "radius_deg", "margin_px", "beam_major_deg",
    "beam_minor_deg", "beam_pa_deg", "wcs", "role", "origin", "rejected", "reasons", "flags",
)  # fmt: skip
LIMIT_COLUMNS = ("_id", "low", "high", "late")


def limit_row(header: Lightcurves) -> tuple[Any, ...] | None:
    """Return the values of `LIMIT_COLUMNS` of an image that was measured; None when it sets no limits."""
    if header.image is None or header.request is not None or header.limit_low is None or header.limit_high is None:
        return None
    return (as_uuid(header.image.id), header.limit_low, header.limit_high, header.late)


def image_row(header: Images) -> tuple[Any, ...] | None:
    """Return the values of `COLUMNS`, NULL where the header is silent; None for a command or the end of a stream.

    Raises
    ------
    SchemaError
        When a time or a size does not fit its column.
    """
    image = header.image
    if image is None:
        return None
    names = (image.instrument, *_band_names(image.band), image.stokes, image.unit)
    instrument, band, optical_filter, stokes, unit = (None if n is None else as_text(n) for n in names)
    frequency = (None, None) if image.band is None else (image.band.freq_hz, image.band.bandwidth_hz)
    return (
        as_uuid(image.id),
        as_uuid(dataset_id(header.dataset)),
        None if image.t_start_us is None else as_time(image.t_start_us, "image.t_start_us"),
        image.exposure_s, instrument, band, *frequency, optical_filter, stokes, unit, image.noise,
        *_size(image), image.centre_ra_deg, image.centre_dec_deg, image.radius_deg,
        as_integer(image.margin_px, "image.margin_px"),
        *_beam(image.beam),
        None if image.wcs is None else as_text(image.wcs),
        as_text(image.role), as_text(image.origin), image.quality.rejected, _reasons(image),
        [as_text(flag) for flag in image.quality.flags],
    )  # fmt: skip


def _band_names(band: Band | None) -> tuple[str | None, str | None]:
    return (None, None) if band is None else (band.name, band.filter)


def _size(image: Image) -> tuple[int | None, int | None]:
    if image.shape is None:
        return None, None
    ny, nx = image.shape
    return as_integer(nx, "image.shape"), as_integer(ny, "image.shape")


def _beam(beam: Beam | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if beam is None else (beam.major_deg, beam.minor_deg, beam.pa_deg)


def _reasons(image: Image) -> str:
    """Return the reasons as JSON; numbers that JSON does not know become null."""
    clean = [msgspec.structs.replace(r, check=as_text(r.check), text=as_text(r.text)) for r in image.quality.reasons]
    return msgspec.json.encode(clean).decode()
