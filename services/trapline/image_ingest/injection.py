"""Fake transients in real images, so that what is found of them says how much is missed.

Where and when they shine depends on the seed alone, not on the images nor on their order: an image that is read again
has the same pixels, and so the same id; all bands of one time see the same fakes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trapline.common.sky import separation_deg
from trapline.common.wcs import SkyWcs, parse_wcs
from trapline.image_ingest.config import InjectionConfig
from trapline.image_ingest.footprint import Footprint
from trapline.image_ingest.layout import Pixels
from trapline.image_ingest.times import SECOND_US
from trapline.schemas.image import Beam
from trapline.schemas.images import Injected

Float = npt.NDArray[np.float64]

_SKY_SQUARE_DEG = 4 * math.pi * math.degrees(1) ** 2
_STAMP_FWHM = 2.0
"""half the side of what is drawn, in major axes: beyond it less than 2e-5 of the peak is left"""
_LARGEST_STAMP_PX = 256
_FIRST_EPOCH = 1 << 40
"""seeds are not negative, and times may be"""


@dataclass(frozen=True, slots=True)
class Fakes:
    """Transients that begin in one interval of `every_s`, anywhere on the sky; arrays of one length."""

    ra_deg: Float
    dec_deg: Float
    start_us: Float
    snr: Float


def inject(
    pixels: Pixels,
    config: InjectionConfig,
    footprint: Footprint,
    beam: Beam,
    noise: float,
    middle_us: int,
    margin_px: int,
) -> tuple[Pixels, list[Injected]]:
    """Return a copy of an image with the fakes that shine in it, and what was added.

    Parameters
    ----------
    pixels
        Shape (ny, nx). When nothing shines in it, it comes back as it is.
    noise
        Rms of the image; a fake's peak is its `snr` times this.
    middle_us
        Middle of the exposure, since 1970-01-01 UTC.
    margin_px
        Edge that is not measured, and so gets none.
    """
    ra, dec, snr = _shining(config, footprint, middle_us)
    wcs = parse_wcs(footprint.cards)
    x, y = wcs.to_pixel(ra, dec) if len(ra) else (ra, dec)
    ny, nx = pixels.shape
    inside = (x >= margin_px) & (x <= nx - 1 - margin_px) & (y >= margin_px) & (y <= ny - 1 - margin_px)
    added: list[Injected] = []
    changed = pixels
    for i in np.flatnonzero(inside):
        column, row = round(float(x[i])), round(float(y[i]))
        if not np.isfinite(pixels[row, column]):
            continue
        if changed is pixels:
            changed = pixels.copy()
        flux = float(snr[i]) * noise
        _add(changed, wcs, float(x[i]), float(y[i]), flux, beam)
        added.append(Injected(float(ra[i]), float(dec[i]), float(x[i]), float(y[i]), flux, float(snr[i])))
    return changed, added


def _shining(config: InjectionConfig, footprint: Footprint, middle_us: int) -> tuple[Float, Float, Float]:
    every_us, duration_us = config.every_s * SECOND_US, config.duration_s * SECOND_US
    epoch = math.floor(middle_us / every_us)
    found = []
    # One that began in the interval before may still shine: `duration_s` is at most `every_s`.
    for number in (epoch - 1, epoch):
        fakes = _fakes(config.seed, number, config.every_s, config.per_square_deg, (config.snr_min, config.snr_max))
        on = (fakes.start_us <= middle_us) & (middle_us < fakes.start_us + duration_us)
        ra, dec, snr = fakes.ra_deg[on], fakes.dec_deg[on], fakes.snr[on]
        near = separation_deg(footprint.centre_ra_deg, footprint.centre_dec_deg, ra, dec) <= footprint.radius_deg
        found.append((ra[near], dec[near], snr[near]))
    ra, dec, snr = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ra, dec, snr


@lru_cache(maxsize=4)
def _fakes(seed: int, epoch: int, every_s: float, per_square_deg: float, snr_range: tuple[float, float]) -> Fakes:
    rng = np.random.default_rng([seed, _FIRST_EPOCH + epoch])
    count = rng.poisson(per_square_deg * _SKY_SQUARE_DEG)
    ra = rng.uniform(0, 360, count)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    start = (epoch + rng.uniform(0, 1, count)) * every_s * SECOND_US
    faintest, brightest = map(math.log, snr_range)
    snr = np.exp(rng.uniform(faintest, brightest, count))
    return Fakes(ra, dec, start, snr)


def _add(pixels: Pixels, wcs: SkyWcs, x: float, y: float, flux: float, beam: Beam) -> None:
    """Add a point source of the beam's shape, in place."""
    (east_x, east_y), (north_x, north_y) = jacobian = wcs.axes_at(x, y)[0]
    pixel_deg = math.sqrt(abs(float(np.linalg.det(jacobian))))
    half = min(math.ceil(_STAMP_FWHM * beam.major_deg / pixel_deg), _LARGEST_STAMP_PX)
    ny, nx = pixels.shape
    top, bottom = max(0, round(y) - half), min(ny, round(y) + half + 1)
    left, right = max(0, round(x) - half), min(nx, round(x) + half + 1)
    dy, dx = np.mgrid[top:bottom, left:right] - np.array([y, x])[:, None, None]
    east, north = east_x * dx + east_y * dy, north_x * dx + north_y * dy
    sine, cosine = math.sin(math.radians(beam.pa_deg)), math.cos(math.radians(beam.pa_deg))
    along, across = east * sine + north * cosine, east * cosine - north * sine
    shape = np.exp(-4 * math.log(2) * ((along / beam.major_deg) ** 2 + (across / beam.minor_deg) ** 2))
    pixels[top:bottom, left:right] += (flux * shape).astype(np.float32)
