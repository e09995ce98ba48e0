"""The point-spread function of an image without a restoring beam, measured on its stars.

Gaussians with axes of their own are fitted to bright sources that stand alone. Stars have one size, whatever their
brightness, and so are the narrowest heap among the sizes; galaxies and saturated stars lie above it, cosmic rays below.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.source_extractor.beam import FWHM_PER_SIGMA, PixelBeam
from trapline.source_extractor.fitting import Fits, Seeds, fit_sources
from trapline.source_extractor.noise import Flattened

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

_FAINTEST_SNR = 20.0  # of a peak: fainter ones tell their size to no better than a tenth
_MOST_STARS, _FEWEST_STARS = 300, 5
_ALONE = 3.0  # full widths at half maximum to the next source
_HEAP = 0.15  # half width of the heap, in ln(size)
_SMALLEST_SIGMA_PX = 0.45  # what is sharper is no star on these pixels
_PASSES = 2


def measure_psf(noise: Flattened, position_px: Float, snr: Float, shape_px: Float, clean: Bool) -> PixelBeam | None:
    """Return the point-spread function as a Gaussian; None when fewer than five stars show it.

    Parameters
    ----------
    noise
        The image without background.
    position_px, snr, shape_px
        Of all n sources: (x, y) (n, 2), peak over noise (n,), and rough second moments (n, 2, 2) px^2.
    clean
        Which are fit to show it (n,): positive, complete, not merged with another.
    """
    stars = np.flatnonzero(clean & (snr > _FAINTEST_SNR) & (np.linalg.det(shape_px) > 0))
    if len(stars) < _FEWEST_STARS:
        return None
    sigma = float(np.exp(np.median(_log_size(shape_px[stars]))))
    stars = stars[_alone(position_px, stars, _ALONE * FWHM_PER_SIGMA * sigma)]
    stars = stars[np.argsort(-snr[stars], kind="stable")[:_MOST_STARS]]
    if len(stars) < _FEWEST_STARS:
        return None
    psf = _round(max(sigma, _SMALLEST_SIGMA_PX))
    for _ in range(_PASSES):
        # The window is that of the first guess, which moments of the brightest pixels make too small or too large.
        found = _of_the_heap(_fitted(noise, position_px[stars], psf))
        if found is None:
            return None
        psf = found
    return psf


def _fitted(noise: Flattened, position_px: Float, start: PixelBeam) -> Fits:
    ny, nx = noise.rms.shape
    # A window may have moved off the edge.
    peak = np.clip(np.rint(position_px), 0, (nx - 1, ny - 1)).astype(np.int64)
    rms = noise.rms[peak[:, 1], peak[:, 0]].astype(np.float64)
    ones = np.ones(len(peak))
    return fit_sources(noise, Seeds(peak, position_px, ones, rms, ones), start, free=True)


def _of_the_heap(fits: Fits) -> PixelBeam | None:
    shape = fits.shape_px[fits.converged & ~fits.masked]
    size = _log_size(shape)
    shape, size = shape[size > np.log(_SMALLEST_SIGMA_PX)], size[size > np.log(_SMALLEST_SIGMA_PX)]
    if len(size) < _FEWEST_STARS:
        return None
    heap = shape[np.abs(size - _narrowest(size)) < _HEAP]
    if len(heap) < _FEWEST_STARS:
        return None
    variance, axes = np.linalg.eigh(np.median(heap, axis=0))
    return PixelBeam(np.asarray(axes.T / np.sqrt(variance)[:, None]))


def _narrowest(values: Float) -> float:
    """Return the half-sample mode: of the half that lies closest together, the same half, until few are left."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        first = int(np.argmin(values[half - 1 :] - values[: len(values) - half + 1]))
        values = values[first : first + half]
    return float(values.mean())


def _alone(position_px: Float, stars: Index, reach_px: float) -> Bool:
    """Return which of the stars have no other source within a distance."""
    distance, _ = cKDTree(position_px).query(position_px[stars], k=[2])
    return np.asarray(np.asarray(distance).ravel() > reach_px)


def _log_size(shape_px: Float) -> Float:
    """Return the logarithm of the geometric mean of the axes, in sigma."""
    return np.asarray(np.log(np.linalg.det(shape_px)) / 4)


def _round(sigma_px: float) -> PixelBeam:
    return PixelBeam(np.eye(2) / sigma_px)
