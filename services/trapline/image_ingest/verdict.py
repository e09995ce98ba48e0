"""Everything that is known of an image, laid before the checks."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.image_ingest.bright import separations_deg
from trapline.image_ingest.cards import Cards
from trapline.image_ingest.footprint import Footprint
from trapline.image_ingest.header import Metadata
from trapline.image_ingest.instruments import Instrument, KeyList
from trapline.image_ingest.lofar import Stations, thermal_noise_jy
from trapline.image_ingest.quality import Measured, Surroundings, judge
from trapline.schemas.image import Beam, Quality


def verdict(
    metadata: Metadata,
    footprint: Footprint | None,
    measured: Measured,
    beam: Beam | None,
    surroundings: Surroundings,
    earlier_rms: Sequence[float],
) -> Quality:
    """Return whether an image is fit, every reason why not in the order of the checks, and what is odd."""
    reasons = metadata.findings.reasons()
    reasons += judge(
        metadata.instrument.quality,
        measured,
        beam,
        footprint.pixel_deg if footprint else None,
        metadata.timing.exposure.value,
        earlier_rms,
        surroundings,
    )
    return Quality(rejected=bool(reasons), reasons=reasons, flags=metadata.findings.flags)


def read_surroundings(cards: Cards, metadata: Metadata, footprint: Footprint | None) -> Surroundings:
    """Return what the instrument could reach, and which bright sources are how near."""
    names = tuple(metadata.instrument.quality.avoid)
    distances: dict[str, float] = {}
    if names and footprint is not None and metadata.timing.start is not None:
        middle_us = metadata.timing.start.value + round(metadata.timing.exposure.value * 5e5)
        distances = separations_deg(names, footprint.centre_ra_deg, footprint.centre_dec_deg, middle_us)
    return Surroundings(_thermal_noise(cards, metadata), distances)


def _thermal_noise(cards: Cards, metadata: Metadata) -> float | None:
    """Return what the stations could reach in the image's unit; an instrument with a theory says when it cannot."""
    instrument, spectrum = metadata.instrument, metadata.spectrum
    if instrument.theory is None:
        return None
    stations, noise = _stations(cards, instrument), None
    if stations is not None and spectrum.freq_hz is not None and metadata.unit and metadata.unit.unit == "Jy":
        exposure_s = metadata.timing.exposure.value
        noise = thermal_noise_jy(stations, spectrum.freq_hz.value, spectrum.bandwidth_hz, exposure_s)
    if noise is None:
        metadata.findings.flag("noise_theory_unknown")
    return noise


def _stations(cards: Cards, instrument: Instrument) -> Stations | None:
    keys, defaults = instrument.keys, instrument.defaults
    found = cards.text(*(key.key for key in keys.antenna_set))
    antenna_set = found.value if found else defaults.antenna_set
    core = _count(cards, keys.core_stations, defaults.core_stations)
    remote = _count(cards, keys.remote_stations, defaults.remote_stations)
    if antenna_set is None or core is None or remote is None:
        return None
    international = _count(cards, keys.international_stations, defaults.international_stations)
    return Stations(antenna_set, core, remote, international or 0)


def _count(cards: Cards, keys: KeyList, default: int | None) -> int | None:
    found = cards.finite(*(key.key for key in keys))
    return round(found.value) if found is not None else default
