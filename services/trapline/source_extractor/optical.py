"""Sources in an image without a restoring beam: fluxes in apertures, positions under a Gaussian window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sep
from scipy.spatial import cKDTree

from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.detection import Islands, detect
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.psf import measure_psf
from trapline.source_extractor.rows import PixelRows, no_flags, symmetric

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_KRON_FACTOR, _SMALLEST_KRON = 2.5, 3.5  # Bertin & Arnouts 1996: of the first moment, and in axes of the source
_KRON_REACH = 6.0  # in axes of the source, within which the first moment is taken
_SIGMA_PER_HALF_LIGHT = 2.0 / 2.35  # of a Gaussian: its half-light radius is half its full width at half maximum
_LONGEST_MOVE_PX = 3.0
_WINDOW_PARTS = 5  # of a pixel along a side; sep's 11 give the same positions in three times the time
_MISSING = sep.APER_HASMASKED | sep.APER_TRUNC


def measure_optical(noise: Flattened, settings: ExtractorConfig) -> PixelRows:
    """Return every source of the image: windowed position, flux of a circular or a Kron aperture, brightest pixel.

    Errors are those of the background noise, independent from pixel to pixel, and with a gain of the photons of the
    source as well. The point-spread function is that of bright stars that stand alone.
    """
    islands = detect(noise, settings, settings.min_area_px, sep.default_kernel)
    rms = islands.rms(noise)
    x, y = windowed_positions(noise, islands)
    total, error, missing = aperture_fluxes(noise, islands, x, y, settings)
    rows = PixelRows(
        x=x,
        y=y,
        covariance_px=symmetric(islands.column("errx2"), islands.column("errxy"), islands.column("erry2")),
        shape_px=symmetric(islands.column("x2"), islands.column("xy"), islands.column("y2")),
        flux_peak=islands.sign * islands.column("peak"),
        flux_peak_err=rms,
        # The aperture sees the image itself, in which a negative source is negative.
        flux_int=total,
        flux_int_err=error,
        rms=rms,
        chi2_reduced=np.full(len(rms), np.nan),
        flags=no_flags(len(rms)),
        left_out=islands.left_out,
    )
    rows = rows.flagged(
        BLENDED=islands.flagged(sep.OBJ_MERGED),
        MASKED=(missing & sep.APER_HASMASKED) != 0,
        NEAR_EDGE=islands.flagged(sep.OBJ_TRUNC) | ((missing & sep.APER_TRUNC) != 0),
        NEGATIVE=islands.sign < 0,
    )
    snr, clean = rows.flux_peak / rms, rows.flags == 0
    return replace(rows, psf=measure_psf(noise, rows.position_px, snr, rows.shape_px, clean))


def windowed_positions(noise: Flattened, islands: Islands) -> tuple[Float, Float]:
    """Return (x, y) under a Gaussian window of the width of each source, the barycentre where that runs away.

    Nearly as exact as a fit of the point-spread function, where a barycentre leans to whatever pixel is above the
    threshold (SExtractor's XWIN_IMAGE). The window of a source beside another would move towards that one.
    """
    x, y = islands.column("x"), islands.column("y")
    moved_x, moved_y = x.copy(), y.copy()
    reach, longest = np.maximum(2 * islands.column("a"), 2.0), _longest_move(x, y)
    for sign in (1.0, -1.0):
        rows = np.flatnonzero(islands.sign == sign)
        if not rows.size:
            continue
        image: Any = noise.flat if sign > 0 else -noise.flat
        half_light, bad = sep.flux_radius(image, x[rows], y[rows], 3 * reach[rows], 0.5, mask=noise.unusable)
        sigma = np.where(np.isfinite(half_light) & (half_light > 0.3) & (bad == 0), half_light, reach[rows] / 2)
        width = _SIGMA_PER_HALF_LIGHT * sigma
        wx, wy, _ = sep.winpos(image, x[rows], y[rows], width, mask=noise.unusable, subpix=_WINDOW_PARTS)
        near = np.hypot(wx - x[rows], wy - y[rows]) < longest[rows]
        moved_x[rows], moved_y[rows] = np.where(near, wx, x[rows]), np.where(near, wy, y[rows])
    return moved_x, moved_y


def _longest_move(x: Float, y: Float) -> Float:
    """Return how far windows may move: never so far that two sources end at one place."""
    if len(x) < 2:
        return np.full(len(x), _LONGEST_MOVE_PX)
    places = np.stack([x, y], axis=-1)
    distance, _ = cKDTree(places).query(places, k=[2])
    return np.minimum(np.ravel(distance) / 4, _LONGEST_MOVE_PX)


def aperture_fluxes(
    noise: Flattened, islands: Islands, x: Float, y: Float, settings: ExtractorConfig
) -> tuple[Float, Float, Int]:
    """Return fluxes, errors and sep's flags: of circles, or of ellipses that hold some 94 % of any source's light."""
    options = {"err": noise.rms, "mask": noise.unusable, "gain": settings.gain_per_unit}
    flux, error, missing = sep.sum_circle(noise.flat, x, y, settings.aperture_radius_px, **options)
    if settings.optical_flux == "circle" or not len(x):
        return flux, error, missing
    a, b = np.maximum(islands.column("a"), 0.5), np.maximum(islands.column("b"), 0.5)
    theta = np.clip(islands.column("theta"), -np.pi / 2, np.pi / 2)
    radius, _ = sep.kron_radius(noise.flat, x, y, a, b, theta, _KRON_REACH, mask=noise.unusable)
    known = np.isfinite(radius) & (radius > 0)
    scale = np.maximum(_KRON_FACTOR * np.where(known, radius, 0.0), _SMALLEST_KRON)
    kron = sep.sum_ellipse(noise.flat, x, y, a, b, theta, scale, **options)
    return tuple(np.where(known, one, other) for one, other in zip(kron, (flux, error, missing), strict=True))
