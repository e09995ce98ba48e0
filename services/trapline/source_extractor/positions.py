"""From pixels to the sky: positions, their errors, and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.common.wcs import SkyWcs
from trapline.schemas.image import Beam
from trapline.source_extractor.beam import FWHM_PER_SIGMA, PixelBeam
from trapline.source_extractor.config import ExtractorConfig

Float = npt.NDArray[np.float64]

_ARCSEC_DEG = 1 / 3600


@dataclass(frozen=True, slots=True)
class SkyPositions:
    """ICRS degrees; errors are 1 sigma in degrees on the sky, east-west and north-south, of the fit alone."""

    ra_deg: Float
    dec_deg: Float
    err_ew_deg: Float
    err_ns_deg: Float


def on_sky(wcs: SkyWcs, x: Float, y: Float, covariance_px: Float) -> SkyPositions:
    """Return where pixel positions are, with their covariance (n, 2, 2) px^2 carried through the local axes."""
    ra, dec = wcs.to_sky(x, y)
    axes = wcs.axes_at(x, y)
    variance = np.einsum("nij,njk,nik->ni", axes, covariance_px, axes)
    return SkyPositions(ra, dec, *np.sqrt(variance).T)


def systematic_errors_deg(settings: ExtractorConfig, beam: Beam | None) -> tuple[float, float]:
    """Return the systematic position error (east-west, north-south): as configured, else from the beam.

    10 arcsec is what the ionosphere does to beams of many arcminutes; to a sharper instrument it would be absurd.
    """
    usual = 0.1 * _ARCSEC_DEG if beam is None else min(10 * _ARCSEC_DEG, beam.minor_deg / 10)
    east_west, north_south = settings.ew_sys_err_deg, settings.ns_sys_err_deg
    return usual if east_west is None else east_west, usual if north_south is None else north_south


def axes_on_sky(shape_px: Float, axes: Float) -> tuple[Float, Float, Float]:
    """Return (major_deg, minor_deg, pa_deg) of second moments (n, 2, 2) px^2.

    Full widths at half maximum; the position angle is north through east, in [0, 180). `axes` (2, 2) are degrees
    (east, north) per pixel (x, y).
    """
    moments = axes @ shape_px @ axes.T
    east, north, mixed = moments[:, 0, 0], moments[:, 1, 1], moments[:, 0, 1]
    mean, half = (east + north) / 2, np.hypot((north - east) / 2, mixed)
    major, minor = np.sqrt(mean + half), np.sqrt(np.maximum(mean - half, 0.0))
    pa_deg = np.mod(np.degrees(np.arctan2(2 * mixed, north - east)) / 2, 180.0)
    return FWHM_PER_SIGMA * major, FWHM_PER_SIGMA * minor, pa_deg


def shape_on_sky(shape: PixelBeam, axes: Float) -> Beam:
    """Return the full widths of a Gaussian on the pixels, and its angle on the sky; `axes` as in `axes_on_sky`."""
    major, minor, pa = axes_on_sky(shape.covariance_px[None], axes)
    return Beam(float(major[0]), float(minor[0]), float(pa[0]))
