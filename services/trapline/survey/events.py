"""Transients that rise and decline, and what moves: each follows from the visit or the night in which it was drawn."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trapline.common.sky import from_tangent
from trapline.survey.config import SurveyConfig
from trapline.survey.visits import Visit, visit_of

Rows = npt.NDArray[Any]

SHINING = np.dtype([("transient", "i8"), ("ra_deg", "f8"), ("dec_deg", "f8"), ("flux_njy", "f8"), ("age", "i4")])
MOVING = np.dtype([("body", "i8"), ("ra_deg", "f8"), ("dec_deg", "f8"), ("flux_njy", "f8")])
_PER_VISIT = 1 << 20
_BEFORE = 1 << 12  # more visits than a transient lasts
_FASTEST_DEG_PER_DAY = 0.7
_DAY_S = 86_400.0


def transients_in(config: SurveyConfig, visit: Visit) -> Rows:
    """Return the transients (`SHINING`) that may shine in a visit: onsets in it, or shortly before, in any field."""
    life = config.rise_visits + config.decline_visits
    # Some began before the survey did.
    since = visit.number - life + 1
    return np.concatenate([_shining(config, begin, visit.number) for begin in range(since, visit.number + 1)])


def _shining(config: SurveyConfig, begin: int, now: int) -> Rows:
    born = _born(config, begin)
    rows = np.zeros(len(born), SHINING)
    for name in ("transient", "ra_deg", "dec_deg"):
        rows[name] = born[name]
    age = now - begin
    rise, decline = config.rise_visits, config.decline_visits
    rows["flux_njy"] = born["flux_njy"] * ((age + 1) / rise if age < rise else np.exp(-2.0 * (age - rise) / decline))
    rows["age"] = age
    return rows


@lru_cache(maxsize=256)
def _born(config: SurveyConfig, number: int) -> Rows:
    """Return the transients whose onset is in a visit, with the fluxes of their peaks."""
    random = np.random.default_rng([config.seed, 3, _BEFORE + number])
    visit, life = visit_of(config, number), config.rise_visits + config.decline_visits
    n = random.poisson(config.transients / life)
    half = config.field_deg / 2
    rows = np.zeros(n, SHINING)
    rows["transient"] = (_BEFORE + number) * _PER_VISIT + np.arange(n)
    east, north = random.uniform(-half, half, (2, n))
    rows["ra_deg"], rows["dec_deg"] = from_tangent(east, north, visit.ra_deg, visit.dec_deg)
    rows["flux_njy"] = config.flux_err_njy * config.detection_threshold * random.uniform(6, 40, n)
    return rows


def bodies_in(config: SurveyConfig, visit: Visit) -> Rows:
    """Return where the bodies of a field (`MOVING`) are in a visit, as their ephemeris says: straight lines in a night.

    They are drawn anew each night: what matters is that they are somewhere else in every visit.
    """
    night = visit.number // config.visits_per_night
    field = visit.number % len(config.pointings) if config.pointings else visit.number
    random = np.random.default_rng([config.seed, 4, night, field])
    n, half = random.poisson(config.moving), config.field_deg / 2
    east, north = random.uniform(-half, half, (2, n))
    speed, angle = random.uniform(0.05, _FASTEST_DEG_PER_DAY, n), random.uniform(0, 2 * np.pi, n)
    first = visit_of(config, night * config.visits_per_night)
    days = (visit.t_us - first.t_us) * 1e-6 / _DAY_S
    rows = np.zeros(n, MOVING)
    rows["body"] = (night * 1_000_003 + field) * _PER_VISIT + np.arange(n)
    rows["ra_deg"], rows["dec_deg"] = from_tangent(
        east + days * speed * np.cos(angle), north + days * speed * np.sin(angle), visit.ra_deg, visit.dec_deg
    )
    rows["flux_njy"] = config.flux_err_njy * config.detection_threshold * random.uniform(2, 40, n)
    return rows
