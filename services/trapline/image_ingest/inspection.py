"""What we read of a file, from which header key, and why an image would be rejected: for a person, before the night."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from trapline.common.ids import text_id
from trapline.image_ingest.bands import choose_band
from trapline.image_ingest.bright import NAMES, separations_deg
from trapline.image_ingest.cards import Cards, quiet
from trapline.image_ingest.config import IngestConfig
from trapline.image_ingest.core import describe, describe_unreadable, unreadable
from trapline.image_ingest.files import find_files
from trapline.image_ingest.fitsfile import FitsImage, UnreadableError, read_fits
from trapline.image_ingest.header import Metadata, read_header
from trapline.image_ingest.instruments import Settings
from trapline.image_ingest.quality import RmsHistory
from trapline.schemas.image import Image


@dataclass(slots=True)
class Inspection:
    """One image: each fact with its value as text and the header key that it came from, and the verdict."""

    origin: str
    facts: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """name, value, and the keys; "" when it was not in the header"""
    image: Image | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        image = self.image
        assert image is not None
        reasons = [
            {"check": r.check, "text": r.text, "value": r.value, "limit": r.limit} for r in image.quality.reasons
        ]
        return {
            "origin": self.origin,
            "rejected": image.quality.rejected,
            "reasons": reasons,
            "flags": image.quality.flags,
            "facts": {name: {"value": value, "key": key} for name, value, key in self.facts},
        }


def inspect_files(
    paths: list[str], section: object, dataset: str = "default", instrument: str | None = None
) -> Iterator[Inspection]:
    """Yield what ingest with this configuration would make of every image of some files, in the order of reading.

    Noise is compared with that of the images before, as ingest would. Raises `NoInputError` and `InstrumentError`.
    """
    settings = Settings.load(cast("IngestConfig", section), dataset)
    history = RmsHistory(settings.config.quality.rms_history)
    for path in find_files(paths):
        try:
            for fits_image in read_fits(path, limit_bytes=settings.config.max_image_bytes):
                inspection = inspect_image(fits_image, settings, instrument, history)
                assert inspection.image is not None
                history.add(inspection.image)
                yield inspection
        except UnreadableError as error:
            yield _unreadable(path, error, settings)


def inspect_image(
    fits_image: FitsImage, settings: Settings, instrument: str | None = None, history: RmsHistory | None = None
) -> Inspection:
    """Return what is read of one image."""
    message = describe(
        fits_image.header,
        fits_image.pixels,
        origin=fits_image.origin,
        settings=settings,
        instrument=instrument,
        history=history,
    )
    with quiet():
        cards = Cards(fits_image.header)
        known = settings.named(instrument) if instrument else settings.recognise(cards)
        metadata = read_header(cards, known, named=instrument is not None)
    image = message.header.image
    assert image is not None
    facts = [*_of_header(cards, metadata, settings), *_of_image(image)]
    return Inspection(fits_image.origin, facts, image)


def _unreadable(path: Path, error: UnreadableError, settings: Settings) -> Inspection:
    message = describe_unreadable(str(path).encode(), [unreadable(error)], str(path), settings)
    return Inspection(str(path), [], message.header.image)


def _of_header(cards: Cards, metadata: Metadata, settings: Settings) -> Iterator[tuple[str, str, str]]:
    keys, defaulted = metadata.keys, "not in the header"
    telescope = cards.text("TELESCOP"), cards.text("INSTRUME")
    said = ", ".join(f"{one.key}={one.value}" for one in telescope if one) or defaulted
    yield "instrument", metadata.instrument.name, said
    beam = metadata.beam
    if beam is not None:
        text = f"{3600 * beam.major_deg:.4g} x {3600 * beam.minor_deg:.4g} arcsec at {beam.pa_deg:.1f} deg"
        yield "beam", text, keys["beam"] or defaulted
    elif metadata.seeing_px is not None:
        yield "seeing", f"{metadata.seeing_px:.3g} px", ", ".join(k.key for k in metadata.instrument.keys.seeing)
    spectrum = metadata.spectrum
    if spectrum.freq_hz is not None:
        yield "frequency", f"{spectrum.freq_hz.value / 1e6:.6g} MHz", keys["spectrum"] or defaulted
        yield "bandwidth", f"{spectrum.bandwidth_hz / 1e6:.6g} MHz", spectrum.bandwidth_key or defaulted
    if spectrum.filter is not None:
        yield "filter", spectrum.filter.value, keys["spectrum"] or defaulted
    band = choose_band(spectrum, metadata.stokes, settings.config.bands)
    if band is not None:
        yield "band", band.name, "configured" if any(b.name == band.name for b in settings.config.bands) else ""
    yield "Stokes", metadata.stokes, keys["stokes"] or defaulted
    if metadata.timing.start is not None:
        yield "start", f"{utc(metadata.timing.start.value)} UTC", keys["start"]
    yield "exposure", f"{metadata.timing.exposure.value:g} s", keys["exposure"] or defaulted
    if metadata.unit is not None:
        scaled = f", times {metadata.unit.factor:g}" if metadata.unit.factor != 1 else ""
        yield "unit", f"{metadata.unit.unit}{scaled}", keys["unit"] or defaulted


def _of_image(image: Image) -> Iterator[tuple[str, str, str]]:
    if image.shape is not None:
        yield "size", f"{image.shape[1]} x {image.shape[0]} px", "NAXIS1, NAXIS2"
    if image.centre_ra_deg is not None and image.centre_dec_deg is not None:
        place = f"{image.centre_ra_deg:.5f} {image.centre_dec_deg:+.5f} deg ICRS"
        yield "centre", place, "CTYPE, CRVAL, CRPIX, CDELT"
        yield "radius", f"{image.radius_deg:.4g} deg", ""
        if image.t_start_us is not None:
            yield "near", _near(image.centre_ra_deg, image.centre_dec_deg, image.t_start_us), ""
    if image.noise is not None:
        yield "noise", f"{image.noise:.4g} {image.unit or ''}".strip(), "the pixels"
    yield "id", text_id(image.id), ""


def _near(ra_deg: float, dec_deg: float, t_us: int) -> str:
    name, distance = min(separations_deg(NAMES, ra_deg, dec_deg, t_us).items(), key=lambda item: item[1])
    return f"{name} at {distance:.1f} deg"


def utc(t_us: int) -> str:
    """Return a time as text, to the microsecond."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=t_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
