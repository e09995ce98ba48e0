"""Beam-fixed Gaussian fits to all islands of an image at once: three parameters, amplitude and position.

Gauss-Newton on stamps of equal shape, in units of the beam's sigma, in which every beam is round and the parameters
(amplitude, amplitude times offset) have comparable errors. The fit is unweighted, so with noise of covariance C its own
covariance is ``(J^T J)^-1 J^T C J (J^T J)^-1``, whatever C is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from trapline.source_extractor.beam import HALF_POWER, PixelBeam
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.stamps import pixel_index

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

_MOST_ITERATIONS = 25
_TOLERANCE = 1e-6  # of the amplitude, and of the beam's sigma
_LARGEST_STEP = 0.5  # in sigma: further away the linear model has no say
_FEWEST_PIXELS = 5
_SMALLEST_FREEDOM = 0.1
_CHUNK = 4096  # islands at a time: bounds memory, and keeps the stamps near the processor


@dataclass(frozen=True, slots=True)
class BeamFit:
    """Fits of n islands; fluxes in units of the pixels, positions 0-based, `covariance_px` (n, 2, 2) of (x, y)."""

    x: Float
    y: Float
    covariance_px: Float
    amplitude: Float
    amplitude_err: Float
    chi2_reduced: Float
    converged: Bool
    masked: Bool


def fit_beam(noise: Flattened, peak_px: Int, start_px: Float, sign: Float, rms: Float, beam: PixelBeam) -> BeamFit:
    """Fit amplitude and position of the beam to the pixels within half power around each peak.

    Parameters
    ----------
    noise
        The image without background.
    peak_px, start_px
        (x, y) of the brightest pixel, and where the fit begins, (n, 2).
    sign
        1.0, or -1.0 to fit a negative source; the amplitude returned carries it.
    rms
        Noise at each source.
    beam
        Its shape on the pixel grid.

    Notes
    -----
    `chi2_reduced` is the sum of squared residuals over its expectation under noise smoothed by the beam,
    ``rms^2 (m - trace((J^T J)^-1 J^T C J))``: 1 on average for a point source, but with the scatter of the few beams,
    not the many pixels, that the window holds. NaN where the window leaves no freedom.

    The amplitude of a peak whose position is free is biased high, by 0.5 of its error divided by the signal-to-noise
    ratio (measured; exactly that in the limit of a small window): 0.06 sigma at 8 sigma.
    """
    window = beam.window()
    correlation = beam.noise_correlation(window)
    parts = [
        _fit(noise, peak_px[part], start_px[part], sign[part], rms[part], beam, window, correlation)
        for part in (slice(i, i + _CHUNK) for i in range(0, max(len(rms), 1), _CHUNK))
    ]
    if len(parts) == 1:
        return parts[0]
    return BeamFit(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(BeamFit)))


def _fit(
    noise: Flattened,
    peak_px: Int,
    start_px: Float,
    sign: Float,
    rms: Float,
    beam: PixelBeam,
    window: Int,
    correlation: Float,
) -> BeamFit:
    values, weight, masked = _stamps(noise, peak_px, sign, window)
    grid = window @ beam.to_sigma.T
    with np.errstate(all="ignore"):
        # A hopeless island may overflow on its way out: it is flagged, the others are not touched.
        amplitude, offset, converged = _iterate(values, weight, grid, (start_px - peak_px) @ beam.to_sigma.T)
        design, residual = _linearise(values, weight, grid, amplitude, offset)
        covariance, freedom = _covariance(design, weight, correlation)
        scale = rms / amplitude
        covariance_px = beam.to_pixel @ (covariance[:, 1:, 1:] * (scale**2)[:, None, None]) @ beam.to_pixel.T
        chi2 = (residual**2).sum(axis=-1) / rms**2 / np.where(freedom > _SMALLEST_FREEDOM, freedom, np.nan)
        amplitude_err = rms * np.sqrt(covariance[:, 0, 0])
    shift = offset @ beam.to_pixel.T
    good = converged & (amplitude > 0) & np.isfinite(amplitude_err) & np.isfinite(covariance_px).all(axis=(1, 2))
    good &= (np.hypot(*offset.T) <= HALF_POWER) | (np.abs(shift).max(axis=-1) <= 1.0)
    good &= weight.sum(axis=-1) >= _FEWEST_PIXELS
    x, y = (peak_px + shift).T
    return BeamFit(x, y, covariance_px, sign * amplitude, amplitude_err, chi2, good, masked)


def _stamps(noise: Flattened, peak_px: Int, sign: Float, window: Int) -> tuple[Float, Float, Bool]:
    """Return pixels and weights (n, m) of the windows, 0 where there is no pixel, and which have masked ones."""
    index, usable, masked = pixel_index(noise, peak_px[:, None] + window)
    return noise.flat.ravel()[index] * (sign[:, None] * usable), usable.astype(np.float64), masked


def _iterate(values: Float, weight: Float, grid: Float, start: Float) -> tuple[Float, Float, Bool]:
    """Return amplitudes (n,), offsets from the peak (n, 2) in sigma, and which converged."""
    amplitude, offset = values.max(axis=-1, initial=0.0), start.copy()
    converged = np.zeros(len(values), bool)
    active = np.arange(len(values))
    for _ in range(_MOST_ITERATIONS):
        height, place = amplitude[active], offset[active]
        design, residual = _linearise(values[active], weight[active], grid, height, place)
        step = np.einsum("nij,nj->ni", _inverse(design @ design.mT), (design @ residual[..., None])[..., 0])
        shift = np.clip(step[:, 1:] / height[:, None], -_LARGEST_STEP, _LARGEST_STEP)
        amplitude[active] = height + step[:, 0]
        offset[active] = place + shift
        done = (np.abs(shift).max(axis=-1) < _TOLERANCE) & (np.abs(step[:, 0]) < _TOLERANCE * height)
        converged[active[done]] = True
        active = active[~done]
        if not active.size:
            break
    return amplitude, offset, converged


def _linearise(values: Float, weight: Float, grid: Float, amplitude: Float, offset: Float) -> tuple[Float, Float]:
    """Return the derivatives (n, 3, m) by amplitude and by (amplitude x offset), and the residuals (n, m)."""
    u, v = grid[:, 0] - offset[:, :1], grid[:, 1] - offset[:, 1:]
    beam = weight * np.exp(-0.5 * (u * u + v * v))
    return np.stack([beam, beam * u, beam * v], axis=1), values - amplitude[:, None] * beam


def _covariance(design: Float, weight: Float, correlation: Float) -> tuple[Float, Float]:
    """Return the covariance (n, 3, 3) of the parameters for noise of rms 1, and what of its power is in residuals."""
    inverse = _inverse(design @ design.mT)
    # One small product per source: a single large one would wake the threads of BLAS, on cores that others use.
    noise = design @ correlation @ design.mT
    freedom = weight.sum(axis=-1) - np.einsum("nij,nji->n", inverse, noise)
    return inverse @ noise @ inverse, freedom


def _inverse(matrix: Float) -> Float:
    """Return inverses of symmetric (n, 3, 3); of a singular one infinite or NaN, where LAPACK would stop them all."""
    (a, b, c), (_, d, e), (_, _, f) = np.moveaxis(matrix, 0, -1)
    adjugate = np.stack(
        [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b], axis=-1
    )
    determinant = a * adjugate[:, 0] + b * adjugate[:, 1] + c * adjugate[:, 2]
    return np.asarray((adjugate / determinant[:, None])[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3))
