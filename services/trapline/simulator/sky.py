"""What is on the sky: steady, variable and transient point sources, and how bright each is in a frame."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.placement import Float, in_field, in_strip, positions, strip_ratio
from trapline.simulator.telescope import pointing_of

Catalogue = npt.NDArray[np.void]
"""Rows of `SOURCE`."""

SOURCE = np.dtype(
    [
        ("name", "U16"),
        ("kind", "U9"),  # steady, variable, transient
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("flux_jy", "f8"),  # mean flux density at the frequency of the first band
        ("spectral_index", "f8"),
        ("amplitude", "f8"),  # of the sinusoid, as a part of the mean
        ("period_s", "f8"),
        ("phase_rad", "f8"),
        ("first_frame", "i8"),  # on in first_frame <= frame < end_frame
        ("end_frame", "i8"),  # -1: always on
    ]
)

_SKY = 2
"""First key after the seed: keeps these random numbers apart from those of the noise."""
_MOST_SOURCES = 1_000_000
_COUNTS_SLOPE = 1.5
"""Sources brighter than S go as S^-1.5: uniform in Euclidean space."""


class NoRoomError(ValueError):
    """The field does not hold as many sources as were asked for."""


@lru_cache(maxsize=8)
def fixed_sources(config: SimulatorConfig) -> Catalogue:
    """Return the steady and variable sources: of the field, or of all that a drifting zenith sees in a day.

    Raises
    ------
    NoRoomError
        When they do not fit at the configured separation.
    """
    generator = np.random.default_rng([config.seed, _SKY])
    share = strip_ratio(config) if config.drift else 1.0
    n_steady, n_variable = round(config.n_steady * share), round(config.n_variable * share)
    sources = _placed(config, n_steady + n_variable, generator)
    n = len(sources)
    sources["flux_jy"] = config.rms_jy_per_beam * bright(config.snr_min, config.snr_max, n, generator)
    sources["spectral_index"] = spectral_indices(config, n, generator)
    sources["kind"] = ["steady"] * n_steady + ["variable"] * n_variable
    sources["name"] = [f"S{i}" for i in range(n_steady)] + [f"V{i}" for i in range(n_variable)]
    variable = sources["kind"] == "variable"
    low, high = config.variable_period_min_s, config.variable_period_max_s
    sources["amplitude"][variable] = config.variable_amplitude
    sources["period_s"][variable] = generator.uniform(low, high, n_variable)
    sources["phase_rad"][variable] = generator.uniform(0.0, 2 * np.pi, n_variable)
    sources.setflags(write=False)
    return sources


def fluxes(config: SimulatorConfig, sources: Catalogue, band: int, frame: int) -> Float:
    """Return the flux density of each source (n,) in Jy in one image, at the middle of its exposure.

    S = S0 (nu / nu0)^alpha (1 + a sin(2 pi t / P + phi)) while the source is on, else 0.
    """
    ratio = config.bands[band].freq_hz / config.bands[0].freq_hz
    middle_s = (frame + 0.5) * config.cadence_us * 1e-6
    # A steady source has amplitude 0, and any period will do.
    period_s = np.where(sources["period_s"] > 0, sources["period_s"], 1.0)
    wave = 1.0 + sources["amplitude"] * np.sin(2 * np.pi * middle_s / period_s + sources["phase_rad"])
    brightness: Float = sources["flux_jy"] * ratio ** sources["spectral_index"] * wave
    return np.where(is_on(sources, frame), brightness, 0.0)


def is_on(sources: Catalogue, frame: int) -> npt.NDArray[np.bool_]:
    """Return which sources shine in a frame."""
    ended = (sources["end_frame"] >= 0) & (frame >= sources["end_frame"])
    on: npt.NDArray[np.bool_] = (frame >= sources["first_frame"]) & ~ended
    return on


def bright(low: float, high: float, count: int, generator: np.random.Generator) -> Float:
    """Draw `count` brightnesses between two limits with Euclidean source counts."""
    at_low, at_high = low**-_COUNTS_SLOPE, high**-_COUNTS_SLOPE
    drawn: Float = (at_low - generator.random(count) * (at_low - at_high)) ** (-1.0 / _COUNTS_SLOPE)
    return drawn


def spectral_indices(config: SimulatorConfig, count: int, generator: np.random.Generator) -> Float:
    """Draw `count` spectral indices."""
    return generator.normal(config.spectral_index, config.spectral_index_std, count)


def blank_sources(vectors: Float) -> Catalogue:
    """Return sources at these unit vectors (n, 3), always on and without anything else."""
    sources = np.zeros(len(vectors), dtype=SOURCE)
    sources["ra_deg"], sources["dec_deg"] = positions(vectors)
    sources["end_frame"] = -1
    return sources


def _placed(config: SimulatorConfig, count: int, generator: np.random.Generator) -> Catalogue:
    if count > _MOST_SOURCES:
        raise NoRoomError(f"{count} sources are more than the {_MOST_SOURCES} supported: lower n_steady or n_variable")
    if config.drift:
        vectors = in_strip(config, count, generator)
    else:
        vectors = in_field(config, count, generator, pointing_of(config, 0), np.empty((0, 3)))
    if len(vectors) < count:
        raise NoRoomError(
            f"there is room for {len(vectors)} of {count} sources, {config.separation_beams} beams apart: lower "
            "n_steady, n_variable or separation_beams, or set crowded"
        )
    return blank_sources(vectors)
