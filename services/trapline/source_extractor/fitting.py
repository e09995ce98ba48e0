"""Fits to all sources of an image: in which pixels, with which neighbours, all of one kind at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from trapline.source_extractor.beam import HALF_POWER, PixelBeam
from trapline.source_extractor.errors import Solution, solve
from trapline.source_extractor.gaussian import Gaussians, Stamps, fit
from trapline.source_extractor.groups import Group, alone, grouped
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.stamps import first_of_its_kind, pixel_index

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]
Index = npt.NDArray[np.intp]

FREE_RADIUS = 1.5
"""Radius of the window of a fit with free axes, in sigma of the source: there its errors are least, and Condon's."""
_MOST_WINDOW_PX = 400  # pixels of a window: those of a beam are not independent
_JOINT_WINDOW_PX = 60  # and of one in a joint fit
_FEWEST_PIXELS = 5
_CHUNK = 4096  # sources at a time: bounds memory, and keeps the stamps near the processor
_CHUNK_ELEMENTS = 1 << 21  # and of the largest array of a joint fit


@dataclass(frozen=True, slots=True)
class Seeds:
    """Where n fits begin: brightest pixels and starts (x, y) (n, 2), sign, noise, and size in beams (1 or larger)."""

    peak_px: Int
    start_px: Float
    sign: Float
    rms: Float
    size: Float


@dataclass(frozen=True, slots=True)
class Fits:
    """Fits of n sources; fluxes in units of the pixels and of the beam, positions 0-based.

    `covariance_px` (n, 2, 2) is that of (x, y), `shape_px` (n, 2, 2) the second moments. `growth` is the logarithm of
    the size over that of the beam: fitted where the axes are free, else how much the residuals ask for.
    """

    position_px: Float
    covariance_px: Float
    shape_px: Float
    flux_peak: Float
    flux_peak_err: Float
    flux_int: Float
    flux_int_err: Float
    chi2_reduced: Float
    growth: Float
    growth_err: Float
    converged: Bool
    masked: Bool


_WIDTHS = {"position_px": (2,), "covariance_px": (2, 2), "shape_px": (2, 2)}


def fit_sources(noise: Flattened, seeds: Seeds, beam: PixelBeam, *, free: bool) -> Fits:
    """Fit every source: amplitude and position of the beam, or with its axes free, neighbours together.

    Parameters
    ----------
    noise
        The image without background.
    seeds
        Where the fits begin.
    beam
        Its shape on the pixel grid.
    free
        Whether the axes are fitted, in the pixels within `FREE_RADIUS`; else in those within half power.

    Notes
    -----
    `chi2_reduced` is the sum of squared residuals over its expectation under noise smoothed by the beam,
    ``rms^2 (m - trace((J^T J)^-1 J^T C J))``: 1 on average for a point source, but with the scatter of the few beams,
    not the many pixels, that a window holds. NaN where the window leaves no freedom.

    The amplitude of a peak whose position is free is biased high, by 0.5 of its error divided by the signal-to-noise
    ratio (measured; exactly that in the limit of a small window): 0.06 sigma at 8 sigma.

    A fit of neighbours that fails is tried again source by source.
    """
    fitter = _Fitter(noise, seeds, beam, free)
    result = _blank(len(seeds.rms))
    area = noise.flat.size if noise.unusable is None else int((~noise.unusable).sum())
    together = np.zeros(len(seeds.rms), bool)
    for group in grouped(seeds.start_px, beam, area / beam.area_px):
        together[group.members[:, : group.kept]] = group.members.shape[1] > 1
        fitter.fit(group, result)
    failed = np.flatnonzero(together & ~result.converged)
    if failed.size:
        fitter.fit(alone(failed), result)
    return result


def _blank(rows: int) -> Fits:
    kinds = {"converged": bool, "masked": bool}
    return Fits(*(np.zeros((rows, *_WIDTHS.get(f.name, ())), kinds.get(f.name, np.float64)) for f in fields(Fits)))


@dataclass(frozen=True, slots=True)
class _Fitter:
    noise: Flattened
    seeds: Seeds
    beam: PixelBeam
    free: bool

    def fit(self, group: Group, result: Fits) -> None:
        """Fit groups of equally many members, those of one size at a time; what is kept goes into the result."""
        k = group.members.shape[1]
        size = self.seeds.size[group.members].max(axis=-1) if self.free else np.ones(len(group.members))
        for scale in np.unique(size).tolist():
            unit = self.beam.scaled(scale)
            most_px = _MOST_WINDOW_PX if k == 1 else _JOINT_WINDOW_PX
            window = unit.window(most_px, FREE_RADIUS if self.free else HALF_POWER)
            for members in _parts(group.members[size == scale], len(window)):
                found, rows = self._fit(members, unit, window, scale), members[:, : group.kept]
                for f in fields(Fits):
                    getattr(result, f.name)[rows] = getattr(found, f.name)[:, : group.kept]

    def _fit(self, members: Index, unit: PixelBeam, window: Int, scale: float) -> Fits:
        """Fit g groups of k sources (g, k) in the windows of them all; lengths are in sigma of `unit`."""
        peak, rms = self.seeds.peak_px[members], self.seeds.rms[members]
        origin = peak[:, :1]
        start = Gaussians(
            self.noise.flat[peak[..., 1], peak[..., 0]].astype(np.float64),
            (self.seeds.start_px[members] - origin) @ unit.to_sigma.T,
            np.broadcast_to([1.0, 0.0, 1.0], (*members.shape, 3)).copy(),
        )
        stamps, masked, correlation = self._stamps(peak, unit, window, rms[:, 0])
        with np.errstate(all="ignore"):
            # A hopeless island may overflow on its way out: it is flagged, the others are not touched.
            found, converged = fit(stamps, start, free=self.free)
            solution = solve(stamps, found, correlation, free=self.free)
            position = origin + found.offset @ unit.to_pixel.T
            good = converged[:, None] & (found.amplitude * self.seeds.sign[members] > 0) & _finite(solution)
            good &= (stamps.weight.sum(axis=-1) >= _FEWEST_PIXELS * members.shape[1])[:, None]
            good &= _near(position - peak, unit)
            return _fits(found, solution, position, unit, scale, good, masked)

    def _stamps(self, peak: Int, unit: PixelBeam, window: Int, rms: Float) -> tuple[Stamps, Bool, Float]:
        """Return the pixels of the windows of groups (g, k, 2), which windows hold masked ones, and C / rms^2."""
        g, k, _ = peak.shape
        place = peak[:, :, None] + window
        index, usable, masked = pixel_index(self.noise, place.reshape(g * k, -1, 2))
        index, usable, place = index.reshape(g, -1), usable.reshape(g, -1), place.reshape(g, -1, 2)
        if k > 1:
            usable &= first_of_its_kind(index)
            grid, correlation = (place - peak[:, :1]) @ unit.to_sigma.T, self.beam.noise_correlation(place)
        else:
            grid, correlation = (window @ unit.to_sigma.T)[None], self.beam.noise_correlation(window)
        weight = usable.astype(np.float64)
        values = self.noise.flat.ravel()[index] * weight
        stamps = Stamps(grid, np.asarray(values, np.float64), weight, rms)
        return stamps, masked.reshape(g, k), correlation


def _parts(members: Index, n_px: int) -> Iterator[Index]:
    k = members.shape[1]
    size = max(1, _CHUNK_ELEMENTS // (k * n_px) ** 2) if k > 1 else _CHUNK
    return (members[i : i + size] for i in range(0, len(members), size))


def _near(shift_px: Float, unit: PixelBeam) -> Bool:
    """Return which Gaussians stay near their brightest pixel."""
    distance = np.hypot(*np.moveaxis(shift_px @ unit.to_sigma.T, -1, 0))
    return np.asarray((distance <= HALF_POWER) | (np.abs(shift_px) <= 1.0).all(axis=-1))


def _finite(solution: Solution) -> Bool:
    """Return which errors are numbers, and of a positive variance: rounding makes others of hopeless fits."""
    covariance = solution.offset_cov
    errors = solution.flux_peak_err + solution.flux_int_err + covariance.sum(axis=(-1, -2))
    positive = (covariance[..., 0, 0] > 0) & (np.linalg.det(covariance) > 0)
    return np.asarray(np.isfinite(errors) & positive)


def _fits(
    found: Gaussians,
    solution: Solution,
    position_px: Float,
    unit: PixelBeam,
    scale: float,
    good: Bool,
    masked: Bool,
) -> Fits:
    """Return the fits of groups, (g, k) each, in pixels and beams."""
    area = scale**2
    return Fits(
        position_px=position_px,
        covariance_px=unit.to_pixel @ solution.offset_cov @ unit.to_pixel.T,
        shape_px=unit.to_pixel @ solution.moments @ unit.to_pixel.T,
        flux_peak=found.amplitude,
        flux_peak_err=solution.flux_peak_err,
        flux_int=solution.flux_int * area,
        flux_int_err=solution.flux_int_err * area,
        chi2_reduced=solution.chi2_reduced,
        growth=solution.growth + np.log(scale),
        growth_err=solution.growth_err,
        converged=good,
        masked=masked,
    )
