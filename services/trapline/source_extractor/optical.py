"""Sources in an image without a restoring beam: fluxes in a circular aperture."""

from __future__ import annotations

import numpy as np
import sep

from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.detection import detect
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.rows import PixelRows, no_flags, symmetric


def measure_optical(noise: Flattened, settings: ExtractorConfig) -> PixelRows:
    """Return every source of the image: barycentre of its island, aperture flux, brightest pixel.

    Errors are those of the background noise, independent from pixel to pixel; photons of the source itself are not
    counted, since the gain is not known.
    """
    islands = detect(noise, settings, settings.min_area_px, kernel=sep.default_kernel)
    x, y, rms = islands.column("x"), islands.column("y"), islands.rms(noise)
    total, error, missing = sep.sum_circle(
        noise.flat, x, y, settings.aperture_radius_px, err=noise.rms, mask=noise.unusable, gain=None
    )
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
    )
    return rows.flagged(
        BLENDED=islands.flagged(sep.OBJ_MERGED),
        MASKED=(missing & sep.APER_HASMASKED) != 0,
        NEAR_EDGE=islands.flagged(sep.OBJ_TRUNC) | ((missing & sep.APER_TRUNC) != 0),
        NEGATIVE=islands.sign < 0,
    )
