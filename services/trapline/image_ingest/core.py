"""From a FITS header and pixels to a message: pure, the same input gives the same message."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xxhash
from astropy.io.fits import Header as FitsHeader

from trapline.common.ids import image_id, record_id, unreadable_id
from trapline.image_ingest.bands import choose_band
from trapline.image_ingest.cards import Cards, one_line, quiet
from trapline.image_ingest.footprint import Footprint, read_footprint
from trapline.image_ingest.header import Metadata, read_header
from trapline.image_ingest.injection import inject
from trapline.image_ingest.instruments import Settings
from trapline.image_ingest.layout import LayoutError, Pixels, read_layout
from trapline.image_ingest.quality import Measured, RmsHistory, measure
from trapline.image_ingest.verdict import read_surroundings, verdict
from trapline.schemas.image import Beam, Image, Quality, Reason
from trapline.schemas.images import SCHEMA, Images, Injected
from trapline.schemas.message import Message

UNREADABLE = "unreadable"
"""Name of the check that an image can be read at all."""


def describe(
    header: FitsHeader,
    pixels: Pixels | None,
    *,
    origin: str,
    settings: Settings,
    instrument: str | None = None,
    history: RmsHistory | None = None,
    role: str = "observation",
) -> Message[Images]:
    """Return the message of an image: what its header says, where it lies, its noise and whether it is fit.

    An image that is unfit is described as far as it goes, and keeps its pixels.

    Parameters
    ----------
    header, pixels
        Of this plane; shape (ny, nx), float32, C order. Pixels become the message's without a copy unless they must
        change (millijansky to jansky, infinities to NaN). None makes it unreadable input.
    origin
        Path or socket, and the position in it.
    instrument
        Name of the instrument when the configuration says it; None to recognise it by the header.
    history
        Noise of earlier images, which is not changed here; None skips the comparison.

    Raises
    ------
    InstrumentError
        When there is no instrument of this name.
    """
    with quiet():
        cards = Cards(header)
        known = settings.named(instrument) if instrument else settings.recognise(cards)
        metadata = read_header(cards, known, named=instrument is not None)
        if pixels is None or pixels.ndim != 2 or not pixels.size:
            reasons = [_no_image(header), *metadata.findings.reasons()]
            return describe_unreadable(header.tostring().encode("ascii", "replace"), reasons, origin, settings)
        footprint = read_footprint(cards, (pixels.shape[0], pixels.shape[1]))
        surroundings = read_surroundings(cards, metadata, footprint)
    pixels, measured = _prepared(pixels, metadata)
    earlier = _earlier(metadata, settings, history)
    quality = verdict(metadata, footprint, measured, _beam(metadata, footprint), surroundings, earlier)
    pixels, injected = _with_fakes(pixels, metadata, footprint, measured, settings)
    image = _image(metadata, footprint, pixels, measured, settings, quality)
    image.origin, image.role = origin, "injection" if settings.config.injection else role
    return _message(image, settings, pixels, injected)


def _earlier(metadata: Metadata, settings: Settings, history: RmsHistory | None) -> Sequence[float]:
    band = choose_band(metadata.spectrum, metadata.stokes, settings.config.bands)
    return history.of(metadata.instrument.name, band.name) if history is not None and band is not None else ()


def describe_unreadable(
    data: bytes | memoryview | xxhash.xxh3_128, reasons: Sequence[Reason], origin: str, settings: Settings
) -> Message[Images]:
    """Return the message of input that no image can be read from: where it came from, why, and an id of its bytes.

    In place of the bytes their hash may be given.
    """
    quality = Quality(rejected=True, reasons=list(reasons))
    image = Image(id=unreadable_id(settings.dataset, data), origin=origin, quality=quality)
    return _message(image, settings, None)


def unreadable(text: object) -> Reason:
    """Return the reason for input that no image can be read from."""
    return Reason(UNREADABLE, one_line(text))


def _message(
    image: Image, settings: Settings, pixels: Pixels | None, injected: Sequence[Injected] = ()
) -> Message[Images]:
    header = Images(
        schema=SCHEMA,
        id=record_id(image.t_start_us or 0, SCHEMA, image.id),
        dataset=settings.dataset,
        image=image,
        injected=list(injected),
    )
    return Message(header, {} if pixels is None else {"pixels": pixels})


def _no_image(header: FitsHeader) -> Reason:
    try:
        layout = read_layout(header)
    except LayoutError as error:
        return Reason(UNREADABLE, f"no image: {error}")
    return Reason(UNREADABLE, f"no pixels of the shape {layout.shape} that the header announces")


def _prepared(pixels: Pixels, metadata: Metadata) -> tuple[Pixels, Measured]:
    """Return the pixels as they are published, and what was measured of them."""
    factor = metadata.unit.factor if metadata.unit else 1.0
    if factor != 1.0:
        with np.errstate(all="ignore"):
            pixels = pixels * np.float32(factor)
    measured = measure(pixels, metadata.instrument.quality)
    if math.isinf(measured.minimum) or math.isinf(measured.maximum):
        metadata.findings.flag("infinite_pixels")
        pixels = np.where(np.isinf(pixels), np.float32(np.nan), pixels)
        measured = measure(pixels, metadata.instrument.quality)
    return np.ascontiguousarray(pixels, dtype="<f4"), measured


def _image(
    metadata: Metadata,
    footprint: Footprint | None,
    pixels: Pixels,
    measured: Measured,
    settings: Settings,
    quality: Quality,
) -> Image:
    config, name = settings.config, metadata.instrument.name
    band = choose_band(metadata.spectrum, metadata.stokes, config.bands)
    beam = _beam(metadata, footprint)
    start, exposure_s = metadata.timing.start, metadata.timing.exposure.value
    image = Image(
        id=image_id(
            pixels,
            dataset=settings.dataset,
            instrument=name,
            band=band.name if band else "",
            stokes=metadata.stokes,
            t_start_us=start.value if start else 0,
            exposure_s=exposure_s,
        ),
        quality=quality,
        instrument=name,
        band=band,
        stokes=metadata.stokes,
        t_start_us=start.value if start else None,
        exposure_s=exposure_s,
        shape=(pixels.shape[0], pixels.shape[1]),
        unit=metadata.unit.unit if metadata.unit else None,
        beam=beam if beam is not None and _is_finite(beam) else None,
        margin_px=config.margin_px,
        noise=measured.rms,
    )
    return _placed(image, footprint, config.extraction_radius_deg)


def _placed(image: Image, footprint: Footprint | None, radius_deg: float | None) -> Image:
    if footprint is not None:
        image.wcs = footprint.cards
        image.centre_ra_deg, image.centre_dec_deg = footprint.centre_ra_deg, footprint.centre_dec_deg
        image.radius_deg = radius_deg if radius_deg is not None else footprint.radius_deg
    return image


def _with_fakes(
    pixels: Pixels, metadata: Metadata, footprint: Footprint | None, measured: Measured, settings: Settings
) -> tuple[Pixels, list[Injected]]:
    """Return the pixels with fake transients in them, where the configuration wants them and the image allows it."""
    config, beam, start = settings.config, _beam(metadata, footprint), metadata.timing.start
    if config.injection is None or footprint is None or start is None or beam is None or not _is_finite(beam):
        return pixels, []
    if not measured.rms or beam.minor_deg <= 0:
        return pixels, []
    middle_us = start.value + round(metadata.timing.exposure.value * 5e5)
    return inject(pixels, config.injection, footprint, beam, measured.rms, middle_us, config.margin_px)


def _beam(metadata: Metadata, footprint: Footprint | None) -> Beam | None:
    if metadata.seeing_px is not None and footprint is not None:
        width = metadata.seeing_px * footprint.pixel_deg
        return Beam(width, width, 0.0)
    return metadata.beam


def _is_finite(beam: Beam) -> bool:
    return all(math.isfinite(value) for value in (beam.major_deg, beam.minor_deg, beam.pa_deg))
