"""Forced photometry with a beam: its amplitude at given sub-pixel positions, blind neighbours fitted along.

An amplitude is the unweighted least-squares fit of the beam to the pixels within half power of its position; with noise
of covariance C, weights w and ``A = w . pixels``, its variance is ``w C w``, whatever C is. Each position is computed
alone: its value depends on the image, on the position and on that image's blind sources, on nothing else that is asked
for at the same time, and is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.schemas.columns import Flag
from trapline.source_extractor.beam import FWHM_PER_SIGMA, HALF_POWER, PixelBeam
from trapline.source_extractor.groups import NEIGHBOUR_BEAMS
from trapline.source_extractor.noise import Flattened
from trapline.source_extractor.stamps import first_of_its_kind, pixel_index

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

_MOST_NEIGHBOURS = 8
_NEIGHBOUR_WINDOW_PX = 60  # pixels of a window in a joint fit: those of a beam are not independent
_LEAST_POWER = 0.25  # of the beam within its window that must fall on usable pixels
_CHUNK = 4096  # positions at a time: bounds memory, and keeps the stamps near the processor
_CHUNK_ELEMENTS = 1 << 21  # and of the largest array of a joint fit


@dataclass(frozen=True, slots=True)
class ForcedFluxes:
    """Amplitudes at n positions, in the unit of the pixels; NaN where nothing could be measured.

    `rms` is the local noise; `flags` holds bits of `Flag`: blended, masked, no pixels.
    """

    amplitude: Float
    amplitude_err: Float
    rms: Float
    flags: npt.NDArray[np.uint32]


def measure_forced(noise: Flattened, beam: PixelBeam, at_px: Float, blind_px: Float) -> ForcedFluxes:
    """Measure the beam at positions.

    Parameters
    ----------
    noise
        The image without background, and its noise.
    beam
        Its shape on the pixel grid.
    at_px
        Positions (x, y), 0-based, (n, 2).
    blind_px
        Positions of the blind sources of the image, (k, 2). Those within the half-power radius of a position are taken
        for the source itself; those beyond, within two beams, are fitted along: the eight nearest.
    """
    result = _nothing(len(at_px))
    on_image = _on_image(noise, at_px)
    neighbours = _neighbours(beam, at_px, blind_px)
    count = (neighbours < len(blind_px)).sum(axis=-1)
    places = np.concatenate([blind_px, np.full((1, 2), np.nan)])
    for number in np.unique(count[on_image]).tolist():
        rows = np.nonzero(on_image & (count == number))[0]
        window = beam.window() if number == 0 else beam.window(_NEIGHBOUR_WINDOW_PX)
        for part in _parts(rows, number, len(window)):
            members = np.concatenate([at_px[part, None], places[neighbours[part, :number]]], axis=1)
            _measure(noise, beam, members, window, part, result)
    return result


def _nothing(rows: int) -> ForcedFluxes:
    amplitude, error, rms = np.full((3, rows), np.nan)
    return ForcedFluxes(amplitude, error, rms, np.full(rows, Flag.NO_PIXELS, np.uint32))


def _on_image(noise: Flattened, at_px: Float) -> Bool:
    ny, nx = noise.flat.shape
    with np.errstate(invalid="ignore"):
        return np.asarray(((at_px >= -0.5) & (at_px < (nx - 0.5, ny - 0.5))).all(axis=-1))


def _neighbours(beam: PixelBeam, at_px: Float, blind_px: Float) -> Int:
    """Return rows of `blind_px` (n, 8) in rising order, filled up with its length."""
    if not len(blind_px):
        return np.zeros((len(at_px), 0), np.int64)
    # A position that is NaN has no neighbours; far away stands for that.
    wanted = np.nan_to_num(at_px @ beam.to_sigma.T, nan=1e300)
    tree, reach = cKDTree(blind_px @ beam.to_sigma.T), NEIGHBOUR_BEAMS * FWHM_PER_SIGMA
    distance, row = tree.query(wanted, k=range(1, _MOST_NEIGHBOURS + 2), distance_upper_bound=reach)
    others = np.where(np.asarray(distance) <= HALF_POWER, len(blind_px), row)
    return np.sort(others.astype(np.int64), axis=-1)[:, :_MOST_NEIGHBOURS]


def _parts(rows: npt.NDArray[np.intp], number: int, n_px: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield rows whose positions have `number` neighbours in parts that fit into memory; a window has `n_px` pixels."""
    size = max(1, _CHUNK_ELEMENTS // ((number + 1) * n_px) ** 2) if number else _CHUNK
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _measure(
    noise: Flattened, beam: PixelBeam, members: Float, window: Int, part: npt.NDArray[np.intp], result: ForcedFluxes
) -> None:
    """Measure positions that have equally many neighbours: `members` (n, 1 + neighbours, 2)."""
    n, alone = len(members), members.shape[1] == 1
    place = (np.rint(members).astype(np.int64)[:, :, None] + window).reshape(n, -1, 2)
    index, usable, masked = pixel_index(noise, place)
    x, y = np.moveaxis(place[:, None] - members[:, :, None], -1, 0)
    whole = np.exp(-0.5 * beam.squared(x, y))
    weight = usable if alone else usable & first_of_its_kind(index)
    templates = whole * weight[:, None]
    values = noise.flat.ravel()[index].astype(np.float64)
    filled = _power(templates[:, 0], len(window)) >= _LEAST_POWER * _power(whole[:, 0], len(window))
    fit = _weights(templates)
    rms = noise.rms.ravel()[index[:, len(window) // 2]].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = rms * np.sqrt(_variance(fit, beam.noise_correlation(window if alone else place)))
        good = filled & np.isfinite(error) & (error > 0)
    result.amplitude[part] = np.where(good, (fit * values).sum(axis=-1), np.nan)
    result.amplitude_err[part] = np.where(good, error, np.nan)
    result.rms[part] = np.where(good, rms, np.nan)
    flags = np.where(good, 0, Flag.NO_PIXELS) | np.where(masked, Flag.MASKED, 0)
    result.flags[part] = flags | (0 if alone else Flag.BLENDED)


def _power(template: Float, n_px: int) -> Float:
    return np.asarray((template[:, :n_px] ** 2).sum(axis=-1))


def _weights(templates: Float) -> Float:
    """Return what each pixel (n, m) adds to the amplitude of the first template, all (n, k, m) fitted together."""
    if templates.shape[1] == 1:
        alone = templates[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(alone / (alone**2).sum(axis=-1, keepdims=True))
    normal = templates @ templates.mT
    # Neighbours that stand on one another, or off the image, make it singular: their sum is fitted then.
    inverse = np.linalg.pinv(normal, rcond=1e-9, hermitian=True)
    return np.asarray((inverse[:, :1] @ templates)[:, 0])


def _variance(weights: Float, correlation: Float) -> Float:
    """Return ``w C w``. A product for each position: one large product might round each by how many there are."""
    smoothed = weights[:, None] @ correlation
    return np.asarray((weights * smoothed[:, 0]).sum(axis=-1))
