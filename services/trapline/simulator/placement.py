"""Where sources may be: inside the field, away from the edges, and far enough from one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree, distance_matrix

from trapline.common.sky import tangent_basis, unit_vectors
from trapline.simulator.config import SimulatorConfig
from trapline.simulator.telescope import Pointing, to_pixel

Float = npt.NDArray[np.float64]

_TRIES_PER_SOURCE = 500
"""Candidates drawn per wanted source before the field counts as full."""
_SMALLEST_BATCH, _LARGEST_BATCH = 32, 1024


def field_radius_deg(config: SimulatorConfig) -> float:
    """Return the angle from the zenith within which sources lie: by choice, by the horizon, or by the array's size."""
    half_diagonal_px = math.hypot(config.nx / 2 - config.edge_px, config.ny / 2 - config.edge_px)
    by_array = math.degrees(math.asin(min(1.0, math.radians(half_diagonal_px * config.pixel_deg))))
    return min(config.field_radius_deg, config.horizon_deg or 90.0, by_array)


def strip_ratio(config: SimulatorConfig) -> float:
    """Return how many fields of view the strip holds over which a drifting zenith passes in a day."""
    radius = field_radius_deg(config)
    low, high = max(-90.0, config.dec_deg - radius), min(90.0, config.dec_deg + radius)
    strip = math.sin(math.radians(high)) - math.sin(math.radians(low))
    return strip / (1.0 - math.cos(math.radians(radius)))


def in_field(config: SimulatorConfig, count: int, generator: np.random.Generator, at: Pointing, taken: Float) -> Float:
    """Return up to `count` positions in the field of view of one pointing, as unit vectors (n, 3).

    Uniform on the sphere, and no two closer than the configured separation, nor any closer to one of `taken` (m, 3).
    Fewer come back when there is no room for more.
    """

    def draw(n: int) -> Float:
        candidates = _cap(generator, n, at, field_radius_deg(config))
        x, y = to_pixel(config, at, *positions(candidates))
        edge = config.edge_px
        inside = (x >= edge) & (x <= config.nx - 1 - edge) & (y >= edge) & (y <= config.ny - 1 - edge)
        return candidates[inside]

    return _collect(config, count, draw, taken)


def in_strip(config: SimulatorConfig, count: int, generator: np.random.Generator) -> Float:
    """Return up to `count` positions in all right ascensions that a drifting zenith sees, as unit vectors (n, 3)."""
    radius = field_radius_deg(config)
    low = math.sin(math.radians(max(-90.0, config.dec_deg - radius)))
    high = math.sin(math.radians(min(90.0, config.dec_deg + radius)))

    def draw(n: int) -> Float:
        dec_deg = np.degrees(np.arcsin(generator.uniform(low, high, n)))
        return unit_vectors(generator.uniform(0.0, 360.0, n), dec_deg)

    return _collect(config, count, draw, np.empty((0, 3)))


def positions(vectors: Float) -> tuple[Float, Float]:
    """Return (ra_deg, dec_deg) of unit vectors (n, 3)."""
    ra = np.mod(np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])), 360.0)
    return ra, np.degrees(np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1])))


def too_close(config: SimulatorConfig, vectors: Float, others: Float) -> npt.NDArray[np.bool_]:
    """Return which of n positions lie closer to which of m others than two sources may, (n, m)."""
    if config.crowded:
        return np.zeros((len(vectors), len(others)), dtype=np.bool_)
    close: npt.NDArray[np.bool_] = distance_matrix(vectors, others) < _least_chord(config)
    return close


def _least_chord(config: SimulatorConfig) -> float:
    # On the sky, not in pixels: then it also holds for a zenith that drifts. Sources 60 degrees from the zenith look
    # closer by half along the line to it, which the default allows for.
    return 2.0 * math.sin(math.radians(min(180.0, config.separation_beams * config.beam_major_deg)) / 2.0)


def _cap(generator: np.random.Generator, n: int, at: Pointing, radius_deg: float) -> Float:
    cosine = generator.uniform(math.cos(math.radians(radius_deg)), 1.0, n)[:, None]
    azimuth = generator.uniform(0.0, 2 * math.pi, n)[:, None]
    east, north = tangent_basis(at.ra_deg, at.dec_deg)
    outward = np.sin(azimuth) * east + np.cos(azimuth) * north
    return cosine * unit_vectors(at.ra_deg, at.dec_deg) + np.sqrt(1.0 - cosine**2) * outward


def _collect(config: SimulatorConfig, count: int, draw: Callable[[int], Float], taken: Float) -> Float:
    size = min(max(2 * count, _SMALLEST_BATCH), _LARGEST_BATCH)
    batches = (draw(size) for _ in range(math.ceil(count * _TRIES_PER_SOURCE / size)))
    if config.crowded:
        return _first(count, batches)
    return _apart(_least_chord(config), count, batches, taken)


def _first(count: int, batches: Iterable[Float]) -> Float:
    found, n = [np.empty((0, 3))], 0
    for batch in batches:
        found.append(batch)
        n += len(batch)
        if n >= count:
            break
    return np.concatenate(found)[:count]


def _apart(least_chord: float, count: int, batches: Iterable[Float], taken: Float) -> Float:
    kept = taken
    for batch in batches:
        free = batch[~_near(batch, kept, least_chord)]
        # Of two close candidates the later is dropped, even if the earlier is dropped for a third: others will come.
        pairs = cKDTree(free).query_pairs(least_chord, output_type="ndarray")
        kept = np.concatenate([kept, np.delete(free, pairs[:, 1], axis=0)])
        if len(kept) >= len(taken) + count:
            break
    return kept[len(taken) : len(taken) + count]


def _near(vectors: Float, others: Float, chord: float) -> npt.NDArray[np.bool_]:
    if not len(others):
        return np.zeros(len(vectors), dtype=np.bool_)
    distance, _ = cKDTree(others).query(vectors, distance_upper_bound=chord)
    return np.isfinite(distance)
