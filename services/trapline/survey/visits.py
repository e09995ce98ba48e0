"""When the telescope looks where: a visit from nothing but the configuration and its number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trapline.survey.config import SurveyConfig

_DAY_US = 86_400_000_000
_BEFORE = 1 << 12


@dataclass(frozen=True, slots=True)
class Visit:
    """One exposure of all detectors: start in microseconds since 1970 UTC, centre of the field in ICRS degrees."""

    number: int
    t_us: int
    ra_deg: float
    dec_deg: float
    filter: str


def visit_of(config: SurveyConfig, number: int) -> Visit:
    """Return a visit by its number, from 0; those before the first are what would have been."""
    night, turn = divmod(number, config.visits_per_night)
    t_us = config.t_start_us + night * _DAY_US + turn * round(config.cadence_s * 1e6)
    if config.pointings:
        pointing = config.pointings[number % len(config.pointings)]
        ra, dec = pointing.ra_deg, pointing.dec_deg
    else:
        ra, dec = _drawn(config, number)
    return Visit(number, t_us, ra, dec, config.filters[night % len(config.filters)])


def visit_at(config: SurveyConfig, t_us: int) -> Visit | None:
    """Return the visit that begins at a time; None when none does."""
    night, into_night = divmod(t_us - config.t_start_us, _DAY_US)
    turn, rest = divmod(into_night, round(config.cadence_s * 1e6))
    if night < 0 or rest or turn >= config.visits_per_night:
        return None
    return visit_of(config, night * config.visits_per_night + turn)


def _drawn(config: SurveyConfig, number: int) -> tuple[float, float]:
    random = np.random.default_rng([config.seed, 1, _BEFORE + number])
    low, high = (math.sin(math.radians(dec)) for dec in (config.dec_min_deg, config.dec_max_deg))
    return float(random.uniform(0, 360)), math.degrees(math.asin(random.uniform(low, high)))
