"""An image without its pixels: what every message about it repeats."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trapline.schemas.header import DecDeg, Id, Place, RaDeg, Seconds, doc


class Band(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frequency interval, or an optical filter."""

    name: Annotated[str, doc("name that groups images: the configured band, else made from the interval or filter")]
    freq_hz: Annotated[float | None, doc("centre of the interval; absent when optical", "Hz")] = None
    bandwidth_hz: Annotated[float | None, doc("width of the interval; absent when optical", "Hz")] = None
    filter: Annotated[str | None, doc("optical filter; absent at radio frequencies")] = None


class Beam(msgspec.Struct, frozen=True):
    """The restoring beam, or the width of the point-spread function: full widths at half maximum."""

    major_deg: Annotated[float, doc("major axis, full width at half maximum", "deg")]
    minor_deg: Annotated[float, doc("minor axis, full width at half maximum", "deg")]
    pa_deg: Annotated[float, doc("position angle of the major axis, north through east", "deg")]


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quality check that failed."""

    check: Annotated[str, doc("name of the check")]
    text: Annotated[str, doc("a sentence for a person")] = ""
    value: Annotated[float | None, doc("what was found; absent when there was nothing to measure")] = None
    limit: Annotated[float | None, doc("what is allowed; absent when the check has no number")] = None


class Quality(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict of ingest: a rejected image travels and is stored, and is not measured."""

    rejected: Annotated[bool, doc("true when the image is unfit to be measured")] = False
    reasons: Annotated[list[Reason], doc("why it was rejected, in the order of the checks")] = []
    flags: Annotated[list[str], doc("what is odd and does not reject")] = []


class Image(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An image without its pixels. Of an unreadable one only `id`, `origin` and `quality` are known."""

    id: Annotated[Id, doc("hash of dataset, instrument, band, Stokes, start, exposure and pixels")]
    place: Annotated[Place | None, doc("its record on `images`; absent on that record itself")] = None
    origin: Annotated[str, doc("path or socket, and the position in it")] = ""
    quality: Quality = msgspec.field(default_factory=Quality)
    instrument: Annotated[str | None, doc("name of the instrument's description")] = None
    band: Band | None = None
    stokes: Annotated[str | None, doc("I, Q, U, V or a correlation")] = None
    t_start_us: Annotated[int | None, doc("start of the exposure, since 1970-01-01 UTC", "us")] = None
    exposure_s: Annotated[Seconds | None, doc("length of the exposure; 0 when the header does not say", "s")] = None
    shape: Annotated[tuple[int, int] | None, doc("(ny, nx)", "px")] = None
    unit: Annotated[str | None, doc('of the fluxes: "Jy", "nJy" or "count"')] = None
    wcs: Annotated[str | None, doc("FITS cards of the celestial WCS, 80 characters each, any frame, without times")] = (
        None
    )
    beam: Annotated[Beam | None, doc("absent when optical and not measured")] = None
    centre_ra_deg: Annotated[RaDeg | None, doc("of the centre of the array", "deg")] = None
    centre_dec_deg: Annotated[DecDeg | None, doc("of the centre of the array", "deg")] = None
    radius_deg: Annotated[float | None, doc("circle about the centre outside which nothing is measured", "deg")] = None
    margin_px: Annotated[int, doc("edge of the array in which nothing is measured", "px", ge=0)] = 0
    noise: Annotated[float | None, doc("rms of the clipped central region, in `unit`")] = None
    role: Annotated[str, doc("observation, test or injection")] = "observation"
