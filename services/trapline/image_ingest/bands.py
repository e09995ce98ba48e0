"""Bands: which images belong together."""

from __future__ import annotations

from collections.abc import Sequence

from trapline.image_ingest.config import BandConfig
from trapline.image_ingest.spectrum import Spectrum
from trapline.schemas.image import Band

ROUNDING_HZ = 1000


def choose_band(spectrum: Spectrum, stokes: str, configured: Sequence[BandConfig]) -> Band | None:
    """Return the band of an image; None when nothing is known of its spectrum.

    It is the first configured band that the image's interval overlaps, else the interval itself rounded to 1 kHz, so
    that images whose headers differ in the last digits stay together. Neighbours that only touch do not overlap.
    Stokes is part of the band: the name says so for everything but I, so that fluxes are never mixed.
    """
    band = _optical(spectrum, configured) if spectrum.filter else _radio(spectrum, configured)
    if band is None or stokes == "I":
        return band
    return Band(f"{band.name} {stokes}", band.freq_hz, band.bandwidth_hz, band.filter)


def _optical(spectrum: Spectrum, configured: Sequence[BandConfig]) -> Band:
    assert spectrum.filter is not None
    name = spectrum.filter.value
    for band in configured:
        if band.filter is not None and band.filter == name:
            return Band(band.name, filter=name)
    return Band(name, filter=name)


def _radio(spectrum: Spectrum, configured: Sequence[BandConfig]) -> Band | None:
    if spectrum.freq_hz is None:
        return None
    low, high = _interval(spectrum.freq_hz.value, spectrum.bandwidth_hz, 1)
    for band in configured:
        if band.freq_hz is None or band.bandwidth_hz is None:
            continue
        if _overlap(low, high, *_interval(band.freq_hz, band.bandwidth_hz, 1)):
            return Band(band.name, band.freq_hz, band.bandwidth_hz)
    low, high = _interval(spectrum.freq_hz.value, spectrum.bandwidth_hz, ROUNDING_HZ)
    return Band(f"{low / 1e6:.3f}-{high / 1e6:.3f} MHz", (low + high) / 2, float(high - low))


def _interval(freq_hz: float, bandwidth_hz: float, rounding_hz: int) -> tuple[int, int]:
    ends = (max(freq_hz - bandwidth_hz / 2, 0.0), freq_hz + bandwidth_hz / 2)
    low, high = (round(end / rounding_hz) * rounding_hz for end in ends)
    return low, high


def _overlap(low: int, high: int, band_low: int, band_high: int) -> bool:
    if low == high or band_low == band_high:
        # A bare frequency lies in a band; at a border it belongs to the band that begins there.
        return band_low <= low < band_high or low <= band_low < high or (low == band_low and high == band_high)
    return low < band_high and band_low < high
