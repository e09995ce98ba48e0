"""Sources in an image with a restoring beam: fluxes per beam, noise as smooth as the beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import sep
from scipy.spatial import cKDTree

from trapline.source_extractor.beam import HALF_POWER, PixelBeam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.detection import Islands, detect
from trapline.source_extractor.fitting import Fits, Seeds, fit_sources
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.rows import PixelRows, choose, no_flags, symmetric

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_LARGEST_SIZE = 8.0  # in beams: what is larger is fitted in its core
_EXTENDED_SIGMA = 5.0
_EXTENDED_GROWTH = 0.1  # of the size: the beam of an image is not known better


def measure_radio(noise: Flattened, beam: PixelBeam, settings: ExtractorConfig) -> PixelRows:
    """Return every source of the image: a fitted Gaussian, or from the moments of its island where that fails.

    Islands are found without a convolution: it would move and merge sources where the noise is correlated already.
    """
    smallest = min(settings.min_area_beams * beam.area_px, noise.flat.size)
    islands = detect(noise, settings, max(1, int(smallest)), beam)
    peak = np.stack([islands.table["xpeak"], islands.table["ypeak"]], axis=-1).astype(np.int64)
    centre = np.stack([islands.column("x"), islands.column("y")], axis=-1)
    # An island of several peaks has its barycentre between them: the fit stays with the brightest.
    start = np.clip(centre, peak - 0.5, peak + 0.5)
    rms = islands.rms(noise)
    seeds = Seeds(peak, start, islands.sign, rms, _sizes(islands, rms, beam, settings.analysis_threshold))
    fit = fit_sources(noise, seeds, beam, free=not settings.force_beam)
    rows = choose(fit.converged, _from_fit(fit, rms), _from_moments(islands, rms, beam))
    return replace(rows, left_out=islands.left_out).flagged(
        BLENDED=_blended(rows.position_px, beam) | islands.flagged(sep.OBJ_MERGED),
        FIT_FAILED=~fit.converged,
        MASKED=fit.masked,
        NEAR_EDGE=islands.flagged(sep.OBJ_TRUNC),
        NEGATIVE=islands.sign < 0,
        EXTENDED=_extended(fit),
    )


def _sizes(islands: Islands, rms: Float, beam: PixelBeam, threshold: float) -> Float:
    """Return sizes in beams, as powers of the square root of 2, from the area of islands.

    A Gaussian of peak S is above a threshold T on ``2 pi sigma^2 ln(S / T)`` pixels.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = np.log(np.maximum(islands.column("peak") / (threshold * rms), 1.5))
    beams = np.sqrt(islands.column("npix") / (beam.area_px * levels))
    return np.asarray(2 ** (np.round(2 * np.log2(np.clip(beams, 1.0, _LARGEST_SIZE))) / 2))


def _extended(fit: Fits) -> Bool:
    """Return what is wider than the beam by more than its error, and by more than beams are known."""
    wider = (fit.growth > _EXTENDED_SIGMA * fit.growth_err) & (fit.growth > _EXTENDED_GROWTH)
    return np.asarray(fit.converged & wider)


def _from_fit(fit: Fits, rms: Float) -> PixelRows:
    """Return rows of fits. With the axes of the beam, the amplitude per beam is the integrated flux."""
    x, y = fit.position_px.T
    return PixelRows(
        x=x,
        y=y,
        covariance_px=fit.covariance_px,
        shape_px=fit.shape_px,
        flux_peak=fit.flux_peak,
        flux_peak_err=fit.flux_peak_err,
        flux_int=fit.flux_int,
        flux_int_err=fit.flux_int_err,
        rms=rms,
        chi2_reduced=fit.chi2_reduced,
        flags=no_flags(len(rms)),
    )


def _from_moments(islands: Islands, rms: Float, beam: PixelBeam) -> PixelRows:
    """Return rows of brightest pixels and second moments: rough, and with errors that do not pretend otherwise."""
    peak, n_px = islands.column("peak"), islands.column("npix")
    shape = symmetric(islands.column("x2"), islands.column("xy"), islands.column("y2"))
    # The sum over pixels whose noise is correlated over an area twice the beam's.
    sum_err = rms * np.sqrt(n_px * np.minimum(n_px, 2 * beam.area_px))
    return PixelRows(
        x=islands.column("x"),
        y=islands.column("y"),
        covariance_px=(shape + beam.covariance_px) * ((rms / peak) ** 2)[:, None, None],
        shape_px=shape,
        flux_peak=islands.sign * peak,
        flux_peak_err=rms,
        flux_int=islands.sign * islands.column("flux") / beam.area_px,
        flux_int_err=sum_err / beam.area_px,
        rms=rms,
        chi2_reduced=np.full(len(rms), np.nan),
        flags=no_flags(len(rms)),
    )


def _blended(position_px: Float, beam: PixelBeam) -> Bool:
    """Return which sources share pixels of their fits with another: their half-power ellipses touch."""
    if len(position_px) < 2:
        return np.zeros(len(position_px), bool)
    places = position_px @ beam.to_sigma.T
    distance, _ = cKDTree(places).query(places, k=[2])
    return np.asarray(np.asarray(distance).ravel() <= 2 * HALF_POWER)
