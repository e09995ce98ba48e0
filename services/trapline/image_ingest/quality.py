"""Whether an image is fit to be measured: the checks in their order, each with its own reason."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trapline.image_ingest.config import QualityLimits
from trapline.image_ingest.layout import Pixels
from trapline.schemas.image import Beam, Image, Reason

MAX_CLIPS = 100
SAMPLE = 4096
"""pixels that suffice for the first cut, which the next ones refine"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the checks look at."""

    minimum: float
    """of all finite pixels; NaN when there are none"""
    maximum: float
    rms: float | None
    """of the clipped central region, in the image's unit; None when it has no finite pixel"""


def measure(pixels: Pixels, limits: QualityLimits) -> Measured:
    """Return extremes and noise of an image (ny, nx). NaN does not count; the noise leaves out infinities as well."""
    with np.errstate(invalid="ignore"):
        low, high = float(np.fmin.reduce(pixels, axis=None)), float(np.fmax.reduce(pixels, axis=None))
    noise = clipped_rms(centre_of(pixels, limits.rms_region), limits.rms_clip_sigma)
    return Measured(low, high, noise if noise is not None else clipped_rms(pixels, limits.rms_clip_sigma))


def centre_of(pixels: Pixels, fraction: float) -> Pixels:
    """Return the central part of an image, `fraction` of each axis and at least 16 pixels where there are as many."""
    ny, nx = pixels.shape
    height, width = (min(n, max(16, round(n * fraction))) for n in (ny, nx))
    top, left = (ny - height) // 2, (nx - width) // 2
    return pixels[top : top + height, left : left + width]


def clipped_rms(pixels: Pixels, clip_sigma: float) -> float | None:
    """Return the standard deviation after clipping at `clip_sigma` until nothing more is clipped.

    The first cut is about the median of a sample with its median absolute deviation, which sources do not move. None
    when no pixel is finite.
    """
    values = pixels[np.isfinite(pixels)].astype(np.float64)
    if not values.size:
        return None
    sample = values[:: max(1, values.size // SAMPLE)]
    middle = float(np.median(sample))
    sigma = 1.4826 * float(np.median(np.abs(sample - middle)))
    kept = 0
    for _ in range(MAX_CLIPS):
        # All values are looked at again, so that the first cut costs no pixel that belongs to the noise.
        inside = values[np.abs(values - middle) <= clip_sigma * sigma] if sigma > 0 else values
        middle, sigma = float(inside.mean()), float(inside.std())
        if inside.size == kept:
            break
        kept = inside.size
    return sigma


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks look at that is not in the pixels."""

    thermal_noise: float | None = None
    """noise that the instrument cannot be below, in the image's unit; None when unknown"""
    bright_deg: Mapping[str, float] = field(default_factory=dict[str, float])
    """distances of bright sources from the centre"""


NOTHING_KNOWN = Surroundings()


def judge(
    limits: QualityLimits,
    measured: Measured | None,
    beam: Beam | None,
    pixel_deg: float | None,
    exposure_s: float,
    earlier_rms: Sequence[float] = (),
    surroundings: Surroundings = NOTHING_KNOWN,
) -> list[Reason]:
    """Return why an image is unfit, in the order of the checks; none when it is fit.

    Parameters
    ----------
    limits
        Those of the instrument, with the configured ones in their place.
    measured
        Of the pixels; None when there are none.
    beam
        None when the image has none, which is for the header's check to judge.
    pixel_deg
        Side of a pixel; None when the WCS is unusable.
    exposure_s
        0 when the header does not say.
    earlier_rms
        Noise of the accepted images of the same band before this one, newest last.
    surroundings
        What else is known of the observation.
    """
    reasons: list[Reason] = []
    if measured is not None:
        reasons += _flat(measured)
    if beam is not None:
        reasons += _beam(limits, beam, pixel_deg)
    if measured is not None:
        reasons += _noise(limits, measured, earlier_rms)
        reasons += _theory(limits, measured, surroundings.thermal_noise)
    reasons += _bright(limits, surroundings.bright_deg)
    if limits.exposure_required and exposure_s <= 0:
        reasons.append(Reason("exposure", "the exposure is 0 s, and the instrument must have one", exposure_s, 0.0))
    return reasons


def _flat(measured: Measured) -> Iterator[Reason]:
    if math.isnan(measured.maximum):
        yield Reason("flat", "no pixel has a value: all are NaN")
    elif measured.minimum == measured.maximum:
        yield Reason("flat", f"all pixels are {measured.minimum:g}", _number(measured.minimum))


def _beam(limits: QualityLimits, beam: Beam, pixel_deg: float | None) -> Iterator[Reason]:
    major, minor = beam.major_deg, beam.minor_deg
    if not (0 < minor < math.inf and 0 < major < math.inf and math.isfinite(beam.pa_deg)):
        text = f"the beam is {major:g} by {minor:g} deg at {beam.pa_deg:g} deg; expected finite axes above 0"
        yield Reason("beam", text, _number(minor if minor <= 0 else major))
        return
    if pixel_deg is not None:
        major_px, minor_px = major / pixel_deg, minor / pixel_deg
        if minor_px <= limits.beam_minor_min_px:
            text = f"the beam is undersampled: its minor axis is {minor_px:.3g} px"
            yield Reason("beam_undersampled", text, _number(minor_px), limits.beam_minor_min_px)
        if major_px > limits.beam_major_max_px:
            text = f"the beam is oversampled: its major axis is {major_px:.3g} px"
            yield Reason("beam_oversampled", text, _number(major_px), limits.beam_major_max_px)
    if major / minor > limits.beam_ratio_max:
        text = f"the beam is too elliptical: its axes have the ratio {major / minor:.3g}"
        yield Reason("beam_elliptical", text, _number(major / minor), limits.beam_ratio_max)


def _noise(limits: QualityLimits, measured: Measured, earlier_rms: Sequence[float]) -> Iterator[Reason]:
    rms = measured.rms
    if rms is None:
        return
    if rms < limits.rms_min or rms <= 0:
        yield Reason("rms", f"the noise is too low: {rms:g}", _number(rms), limits.rms_min)
    elif limits.rms_max is not None and rms > limits.rms_max:
        yield Reason("rms", f"the noise is too high: {rms:g}", _number(rms), limits.rms_max)
    if len(earlier_rms) >= limits.rms_history_min:
        mean, spread = float(np.mean(earlier_rms)), float(np.std(earlier_rms))
        # Equal values have no spread to compare with.
        # Noise that is measured well scatters little: what is a few sigma of that is no reason to lose an image.
        allowed = max(limits.rms_history_sigma * spread, limits.rms_history_tolerance * mean)
        if spread > 0 and abs(rms - mean) > allowed:
            text = (
                f"the noise, {rms:g}, is {abs(rms - mean) / spread:.1f} sigma from that of the last {len(earlier_rms)}"
            )
            limit = mean + math.copysign(allowed, rms - mean)
            yield Reason("rms_history", f"{text} images of the band", rms, limit)


def _theory(limits: QualityLimits, measured: Measured, thermal: float | None) -> Iterator[Reason]:
    if thermal is None or measured.rms is None:
        return
    times = measured.rms / thermal
    if times < limits.noise_theory_min:
        text = f"the noise is {times:.3g} times what the stations can reach ({thermal:.3g}): too little"
        yield Reason("noise_theory", text, measured.rms, limits.noise_theory_min * thermal)
    elif times > limits.noise_theory_max:
        text = f"the noise is {times:.3g} times what the stations can reach ({thermal:.3g}): too much"
        yield Reason("noise_theory", text, measured.rms, limits.noise_theory_max * thermal)


def _bright(limits: QualityLimits, distances_deg: Mapping[str, float]) -> Iterator[Reason]:
    for name, distance in distances_deg.items():
        if distance < limits.avoid_deg:
            yield Reason("bright_source", f"{name} is {distance:.2f} deg from the centre", distance, limits.avoid_deg)


@dataclass(slots=True)
class RmsHistory:
    """Noise of the last accepted images, per instrument and band. Rebuilt on start from what was appended."""

    length: int = 100
    _bands: dict[tuple[str, str], deque[float]] = field(default_factory=dict[tuple[str, str], "deque[float]"])

    def add(self, image: Image) -> None:
        """Remember an image, unless it was rejected."""
        if image.quality.rejected or image.noise is None or image.band is None or image.instrument is None:
            return
        band = (image.instrument, image.band.name)
        self._bands.setdefault(band, deque(maxlen=self.length)).append(image.noise)

    def of(self, instrument: str, band: str) -> Sequence[float]:
        """Return what is remembered of a band, newest last."""
        return tuple(self._bands.get((instrument, band), ()))


def _number(value: float) -> float | None:
    """Return a number that any reader of a message can have; infinities and NaN are said in the text."""
    return value if math.isfinite(value) else None
