"""Sources in an image with a restoring beam: fluxes per beam, noise as smooth as the beam."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import sep
from scipy.spatial import cKDTree

from trapline.source_extractor.beam import HALF_POWER, PixelBeam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.detection import Islands, detect
from trapline.source_extractor.gaussian import BeamFit, fit_beam
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.rows import PixelRows, choose, no_flags, symmetric

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def measure_radio(noise: Flattened, beam: PixelBeam, settings: ExtractorConfig) -> PixelRows:
    """Return every source of the image: fitted with the beam, or from the moments of its island where that fails.

    Islands are found without a convolution: it would move and merge sources where the noise is correlated already.
    """
    smallest = min(settings.min_area_beams * beam.area_px, noise.flat.size)
    islands = detect(noise, settings, min_area_px=max(1, int(smallest)))
    peak = np.stack([islands.table["xpeak"], islands.table["ypeak"]], axis=-1).astype(np.int64)
    centre = np.stack([islands.column("x"), islands.column("y")], axis=-1)
    # An island of several peaks has its barycentre between them: the fit stays with the brightest.
    start = np.clip(centre, peak - 0.5, peak + 0.5)
    rms = islands.rms(noise)
    fit = fit_beam(noise, peak, start, islands.sign, rms, beam)
    rows = choose(fit.converged, _from_fit(fit, rms, beam), _from_moments(islands, rms, beam))
    return rows.flagged(
        BLENDED=_blended(rows.position_px, beam) | islands.flagged(sep.OBJ_MERGED),
        FIT_FAILED=~fit.converged,
        MASKED=fit.masked,
        NEAR_EDGE=islands.flagged(sep.OBJ_TRUNC),
        NEGATIVE=islands.sign < 0,
    )


def _from_fit(fit: BeamFit, rms: Float, beam: PixelBeam) -> PixelRows:
    """Return rows of fits. With the axes of the beam, the amplitude per beam is the integrated flux."""
    return PixelRows(
        x=fit.x,
        y=fit.y,
        covariance_px=fit.covariance_px,
        shape_px=np.broadcast_to(beam.covariance_px, (len(rms), 2, 2)),
        flux_peak=fit.amplitude,
        flux_peak_err=fit.amplitude_err,
        flux_int=fit.amplitude,
        flux_int_err=fit.amplitude_err,
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
    blended = np.zeros(len(position_px), bool)
    blended[cKDTree(position_px @ beam.to_sigma.T).query_pairs(2 * HALF_POWER, output_type="ndarray").ravel()] = True
    return blended
