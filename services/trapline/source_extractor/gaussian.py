"""Gaussians in many stamps of equal shape, fitted at once: Levenberg-Marquardt over padded arrays.

Each of n fits holds k Gaussians over m pixels. Lengths are in units of a common sigma, in which every beam is round;
the derivatives are by (amplitude, amplitude x offset) and, with free axes, amplitude x the three elements of the
inverse of the second moments, so that all parameters of a source have comparable errors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

_MOST_ITERATIONS = 40
_TOLERANCE = 1e-4  # of the noise: what is left after such a step is far below any error
_FLOOR = 1e-7  # of the amplitude, where there is hardly any noise
_LARGEST_STEP = 0.5  # in sigma: further away the linear model has no say
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-9, 1e6
_RIDGE = 1e-13  # of the diagonal: a singular matrix stops one fit, and no other


@dataclass(slots=True)
class Gaussians:
    """The parameters: `amplitude` (n, k), `offset` (n, k, 2), `shape` (n, k, 3) as (xx, xy, yy) of the inverse."""

    amplitude: Float
    offset: Float
    shape: Float

    def take(self, rows: Index) -> Gaussians:
        """Return those of some fits."""
        return Gaussians(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Index, other: Gaussians) -> None:
        """Replace those of some fits."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    def moved(self, step: Float) -> Gaussians:
        """Return the parameters after a step (n, k, 3 or 6), of which none may go too far."""
        height = self.amplitude[..., None]
        shift = np.clip(step[..., 1:3] / height, -_LARGEST_STEP, _LARGEST_STEP)
        shape = self.shape + np.clip(step[..., 3:] / height, -0.5, 0.5) if step.shape[-1] > 3 else self.shape
        return Gaussians(self.amplitude + step[..., 0], self.offset + shift, shape)

    def sensible(self) -> Bool:
        """Return in which fits (n,) every Gaussian is one: its axes are real, and within a factor of ten."""
        xx, xy, yy = np.moveaxis(self.shape, -1, 0)
        determinant = xx * yy - xy * xy
        good = (xx > 0.01) & (yy > 0.01) & (xx < 100) & (yy < 100) & (determinant > 1e-4)
        return np.asarray(good.all(axis=-1) & np.isfinite(self.amplitude).all(axis=-1))


@dataclass(frozen=True, slots=True)
class Stamps:
    """Pixels of n fits: `grid` (n or 1, m, 2) their places in sigma, `values` and `weight` (n, m), `rms` (n,).

    Weight and value are 0 where there is no pixel.
    """

    grid: Float
    values: Float
    weight: Float
    rms: Float

    def take(self, rows: Index) -> Stamps:
        """Return those of some fits."""
        grid = self.grid if len(self.grid) == 1 else self.grid[rows]
        return Stamps(grid, self.values[rows], self.weight[rows], self.rms[rows])


def fit(stamps: Stamps, start: Gaussians, *, free: bool) -> tuple[Gaussians, Bool]:
    """Return the least-squares Gaussians, and which fits (n,) converged.

    Parameters
    ----------
    stamps
        The pixels.
    start
        Where the fits begin; with fixed axes the shape stays as it is.
    free
        Whether the axes are fitted too.
    """
    found = start.take(np.arange(len(start.amplitude)))
    converged = np.zeros(len(stamps.values), bool)
    active = np.arange(len(stamps.values))
    damping = np.full(len(active), _FIRST_DAMPING)
    best = _Linear.at(stamps, found, free=free)
    for _ in range(_MOST_ITERATIONS):
        step = best.step(damping)
        now = found.take(active)
        trial = now.moved(step)
        there = _Linear.at(stamps.take(active), trial, free=free)
        better = trial.sensible() & (there.cost <= best.cost * (1 + 1e-12))
        found.put(active[better], trial.take(np.flatnonzero(better)))
        size = np.abs(step).max(axis=(1, 2))
        small = size < np.maximum(_TOLERANCE * stamps.rms[active], _FLOOR * np.abs(now.amplitude).max(axis=-1))
        small &= damping < 1.0  # a step that is held back says nothing
        damping = np.where(better, np.maximum(damping / 10, _LEAST_DAMPING), damping * 10)
        converged[active[small]] = True
        going = ~small & (damping < _MOST_DAMPING) & np.isfinite(size)
        active, damping = active[going], damping[going]
        if not active.size:
            break
        best = _Linear.choose(better, there, best).take(np.flatnonzero(going))
    return found, converged & found.sensible()


def linearise(stamps: Stamps, at: Gaussians, *, free: bool) -> tuple[Float, Float]:
    """Return the derivatives (n, k, p, m) by the parameters (p = 3, or 6 with free axes), and the residuals (n, m)."""
    u = stamps.grid[:, None, :, 0] - at.offset[..., :1]
    v = stamps.grid[:, None, :, 1] - at.offset[..., 1:]
    xx, xy, yy = (at.shape[..., i, None] for i in range(3))
    if free:
        along_x, along_y = xx * u + xy * v, xy * u + yy * v
    else:
        along_x, along_y = u, v
    beam = stamps.weight[:, None] * np.exp(-0.5 * (u * along_x + v * along_y))
    residual = stamps.values - (at.amplitude[..., None] * beam).sum(axis=1)
    design = [beam, beam * along_x, beam * along_y]
    if free:
        design += [-0.5 * beam * u * u, -beam * u * v, -0.5 * beam * v * v]
    return np.stack(design, axis=2), residual


@dataclass(slots=True)
class _Linear:
    """The linear model of n fits: `normal` (n, q, q), `gradient` (n, q) and `cost` (n,); q = k p."""

    normal: Float
    gradient: Float
    cost: Float
    n_gaussians: int

    @classmethod
    def at(cls, stamps: Stamps, at: Gaussians, *, free: bool) -> _Linear:
        design, residual = linearise(stamps, at, free=free)
        flat = design.reshape(len(design), -1, design.shape[-1])
        gradient = (flat @ residual[..., None])[..., 0]
        return cls(flat @ flat.mT, gradient, (residual**2).sum(axis=-1), design.shape[1])

    @classmethod
    def choose(cls, first: Bool, one: _Linear, other: _Linear) -> _Linear:
        return cls(
            np.where(first[:, None, None], one.normal, other.normal),
            np.where(first[:, None], one.gradient, other.gradient),
            np.where(first, one.cost, other.cost),
            one.n_gaussians,
        )

    def take(self, rows: Index) -> _Linear:
        return _Linear(self.normal[rows], self.gradient[rows], self.cost[rows], self.n_gaussians)

    def step(self, damping: Float) -> Float:
        """Return the step (n, k, p)."""
        inverse = inverse_of(self.normal, damping)
        step = np.einsum("nij,nj->ni", inverse, self.gradient)
        return np.asarray(step.reshape(len(damping), self.n_gaussians, -1))


def inverse_of(normal: Float, damping: Float | float = 0.0) -> Float:
    """Return inverses of symmetric positive (n, q, q), their diagonals raised by a factor of 1 + damping.

    Gauss-Jordan, column by column for all at once: of a singular matrix the inverse is huge, infinite or NaN, where
    LAPACK would stop them all; and for small ones it is faster.
    """
    work = normal.copy()
    size = work.shape[-1]
    diagonal = np.arange(size)
    raised = np.asarray(damping)[..., None] + 1.0 + _RIDGE
    work[:, diagonal, diagonal] *= raised
    for j in range(size):
        pivot = 1.0 / work[:, j, j]
        row = work[:, j] * pivot[:, None]
        column = work[:, :, j].copy()
        column[:, j] = 0.0
        row[:, j] = pivot
        work[:, :, j] = 0.0
        work[:, j] = 0.0
        work -= column[:, :, None] * row[:, None, :]
        work[:, j] = row
    return work
