"""Errors of Gaussian fits under noise that is correlated as the beam smooths it.

Unweighted fits with derivatives J have the covariance ``(J^T J)^-1 J^T C J (J^T J)^-1`` under noise of covariance C,
whatever C is. For an isolated source with free axes it is what Condon (1997, PASP 109, 166) found for noise correlated
over the beam; it holds as well at edges, around masked pixels and between neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trapline.source_extractor.gaussian import Gaussians, Stamps, inverse_of, linearise

Float = npt.NDArray[np.float64]

_SMALLEST_FREEDOM = 0.1


@dataclass(frozen=True, slots=True)
class Solution:
    """What n fits of k Gaussians say, in the unit of the pixels and in sigma.

    `offset_cov` (n, k, 2, 2) and `moments` (n, k, 2, 2) are in sigma^2; `flux_int` is in units of a round Gaussian of
    sigma 1. `growth` is the logarithm of the size, `chi2_reduced` (n, k) that of the fit.
    """

    offset_cov: Float
    moments: Float
    flux_peak_err: Float
    flux_int: Float
    flux_int_err: Float
    growth: Float
    growth_err: Float
    chi2_reduced: Float


def solve(stamps: Stamps, found: Gaussians, correlation: Float, *, free: bool) -> Solution:
    """Return errors and what follows from the parameters.

    Parameters
    ----------
    stamps, found
        The pixels and the Gaussians fitted to them.
    correlation
        Of the noise between the pixels, (m, m) or (n, m, m).
    free
        Whether the axes were fitted. If not, `growth` is how much the residuals ask for: a step of least squares along
        the size, at right angles to what was fitted.
    """
    design, residual = linearise(stamps, found, free=free)
    n, k, p, m = design.shape
    flat = design.reshape(n, k * p, m)
    inverse = inverse_of(flat @ flat.mT)
    # One small product per source: a single large one would wake the threads of BLAS, on cores that others use.
    noise = flat @ correlation @ flat.mT
    covariance = inverse @ noise @ inverse
    freedom = stamps.weight.sum(axis=-1) - np.einsum("nij,nji->n", inverse, noise)
    chi2 = (residual**2).sum(axis=-1) / stamps.rms**2 / np.where(freedom > _SMALLEST_FREEDOM, freedom, np.nan)
    blocks = np.stack([covariance[:, i * p : i * p + p, i * p : i * p + p] for i in range(k)], axis=1)
    scale = stamps.rms[:, None] / np.abs(found.amplitude)
    moments = _inverse_2x2(found.shape)
    size = np.zeros((n, k, p))
    if free:
        # d ln(size) = -tr(P^-1 dP) / 4 for the inverse P of the moments.
        size[..., 3:] = -0.25 * np.stack([moments[..., 0, 0], 2 * moments[..., 0, 1], moments[..., 1, 1]], axis=-1)
        growth = 0.25 * np.log(np.linalg.det(moments))
        growth_err = scale * _root(size, blocks)
    else:
        growth, growth_err = _wanted_growth(stamps, found, flat, inverse, residual, correlation)
    flux = np.zeros((n, k, p))
    flux[..., 0] = 1.0
    total = found.amplitude * np.sqrt(np.linalg.det(moments))
    return Solution(
        offset_cov=blocks[..., 1:3, 1:3] * (scale**2)[..., None, None],
        moments=moments,
        flux_peak_err=stamps.rms[:, None] * np.sqrt(blocks[..., 0, 0]),
        flux_int=total,
        flux_int_err=np.abs(total) * scale * _root(flux + 2 * size, blocks),
        growth=growth,
        growth_err=growth_err,
        chi2_reduced=np.repeat(chi2[:, None], k, axis=1),
    )


def _wanted_growth(
    stamps: Stamps, found: Gaussians, design: Float, inverse: Float, residual: Float, correlation: Float
) -> tuple[Float, Float]:
    """Return by how much each beam (n, k) should grow, and the error of that."""
    u = stamps.grid[:, None, :, 0] - found.offset[..., :1]
    v = stamps.grid[:, None, :, 1] - found.offset[..., 1:]
    squared = u * u + v * v
    wider = stamps.weight[:, None] * squared * np.exp(-0.5 * squared)
    wider -= (wider @ design.mT) @ inverse @ design
    power = (wider**2).sum(axis=-1) * found.amplitude
    growth = (wider @ residual[..., None])[..., 0] / power
    noise = ((wider @ correlation) * wider).sum(axis=-1)
    return growth, stamps.rms[:, None] * np.sqrt(noise) / np.abs(power)


def _root(gradient: Float, covariance: Float) -> Float:
    return np.asarray(np.sqrt(np.einsum("nki,nkij,nkj->nk", gradient, covariance, gradient)))


def _inverse_2x2(shape: Float) -> Float:
    xx, xy, yy = np.moveaxis(shape, -1, 0)
    adjugate = np.stack([np.stack([yy, -xy], axis=-1), np.stack([-xy, xx], axis=-1)], axis=-2)
    return np.asarray(adjugate / (xx * yy - xy * xy)[..., None, None])
