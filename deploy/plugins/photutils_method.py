"""Another way to find and measure radio sources, as a plug-in of the extractor: photutils' peaks and PSF photometry.

    [source_extractor]
    method = "photutils_method:extract"      # this directory has to be in PYTHONPATH

The function gets the image without its background, its noise and its beam on the pixels, and returns what it found.
Everything around it (region, sky positions, forced photometry, ids, messages, replicas, restarts) is the service's.
"""

import warnings

import numpy as np
from astropy.modeling.fitting import TRFLSQFitter
from astropy.table import QTable
from photutils.detection import find_peaks
from photutils.psf import GaussianPSF, PSFPhotometry
from photutils.utils.exceptions import NoDetectionsWarning

from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.rows import PixelRows, no_flags
from trapline.source_extractor.scene import Scene

FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


def extract(scene: Scene, settings: ExtractorConfig) -> PixelRows:
    """Fit the restoring beam to every local maximum above the detection threshold."""
    noise, beam = scene.noise, scene.beam
    if beam is None:
        raise ValueError("photutils_method measures images with a restoring beam")
    shape = beam.covariance_px
    size = 2 * int(np.ceil(max(beam.half_power_px))) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)
        peaks = find_peaks(noise.flat, settings.detection_threshold * noise.rms, box_size=size, mask=noise.unusable)
    start = QTable()
    start["x"] = [] if peaks is None else peaks["x_peak"].astype(float)
    start["y"] = [] if peaks is None else peaks["y_peak"].astype(float)
    if len(start):
        start["flux"] = peaks["peak_value"] * beam.area_px
        photometry = PSFPhotometry(psf(shape), size, fitter=TRFLSQFitter(), aperture_radius=size / 2)
        fitted = photometry(noise.flat.astype(float), mask=noise.unusable, init_params=start)
        x, y, flux = (np.asarray(fitted[name], float) for name in ("x_fit", "y_fit", "flux_fit"))
    else:
        x, y, flux = np.empty((3, 0))
    peak, n = flux / beam.area_px, len(x)
    rms = noise.rms[np.asarray(start["y"], int), np.asarray(start["x"], int)].astype(float)
    return PixelRows(
        x=x,
        y=y,
        # photutils' own errors are those of independent pixels; these are Condon's (1997) for noise like the beam.
        covariance_px=shape * ((rms / peak) ** 2)[:, None, None],
        shape_px=np.broadcast_to(shape, (n, 2, 2)),
        flux_peak=peak,
        flux_peak_err=rms,
        flux_int=peak,
        flux_int_err=rms,
        rms=rms,
        chi2_reduced=np.full(n, np.nan),
        flags=no_flags(n),
    )


def psf(shape: np.ndarray) -> GaussianPSF:
    """Return photutils' model of a Gaussian with these second moments (2, 2) px^2; only flux and place are fitted."""
    variance, axes = np.linalg.eigh(shape)
    minor, major = FWHM_PER_SIGMA * np.sqrt(variance)
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1]))
    return GaussianPSF(x_fwhm=major, y_fwhm=minor, theta=angle)
