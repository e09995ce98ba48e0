"""What a visit finds: of all that shines, what is detected, where it seems to be, and what it really was."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from trapline.common.sky import from_tangent, tangent_offsets, unit_vectors
from trapline.survey.config import SurveyConfig
from trapline.survey.events import bodies_in, transients_in
from trapline.survey.sky import fluxes, stars_in
from trapline.survey.visits import Visit

Float = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]

ARCSEC_DEG = 1 / 3600
_FWHM_PER_SIGMA = 2.3548200450309493


class Truth(IntEnum):
    """What a detection really is."""

    NOISE = 0
    STAR = 1
    TRANSIENT = 2
    MOVING = 3


SHINES = np.dtype([("truth", "u1"), ("number", "i8"), ("ra_deg", "f8"), ("dec_deg", "f8"), ("flux_njy", "f8")])
DETECTION = np.dtype(
    [*SHINES.descr, ("east_deg", "f8"), ("north_deg", "f8"), ("err_deg", "f8"), ("seen_njy", "f8"), ("body", "?")]
)
"""A detection: its truth, where it was measured to be in the tangent plane of the field, and its measured flux.
`body` marks what lies within 1 arcsec of where a body is expected: it is kept apart."""


def shining(config: SurveyConfig, visit: Visit) -> Rows:
    """Return everything in the field that has a flux (`SHINES`), detected or not."""
    stars = stars_in(config, visit.ra_deg, visit.dec_deg, config.field_deg / 2**0.5)
    transients, bodies = transients_in(config, visit), bodies_in(config, visit)
    parts = [
        _shines(Truth.STAR, stars, "star", fluxes(stars, visit.t_us)),
        _shines(Truth.TRANSIENT, transients, "transient", transients["flux_njy"]),
        _shines(Truth.MOVING, bodies, "body", bodies["flux_njy"]),
    ]
    rows = np.concatenate(parts)
    return rows[_in_field(config, *tangent_offsets(rows["ra_deg"], rows["dec_deg"], visit.ra_deg, visit.dec_deg))]


def detections(config: SurveyConfig, visit: Visit) -> Rows:
    """Return the detections of a visit (`DETECTION`): the same ones however often it is asked."""
    random = np.random.default_rng([config.seed, 5, visit.number])
    found = np.concatenate([_real(config, visit, random), _false(config, random)])
    found = found[_in_field(config, found["east_deg"], found["north_deg"])]
    found["body"] = _near_body(config, visit, found)
    return found


def flux_at(config: SurveyConfig, visit: Visit, ra_deg: Float, dec_deg: Float) -> Float:
    """Return the true flux in nJy at positions: of the nearest thing within 1 arcsec that does not move, else 0."""
    everything = shining(config, visit)
    rows = everything[everything["truth"] != Truth.MOVING]
    flux = np.zeros(len(ra_deg))
    if len(rows) and len(flux):
        tree = cKDTree(unit_vectors(rows["ra_deg"], rows["dec_deg"]))
        distance, nearest = tree.query(unit_vectors(ra_deg, dec_deg))
        near = np.degrees(distance) < ARCSEC_DEG
        flux[near] = rows["flux_njy"][np.asarray(nearest)[near]]
    return flux


def _shines(truth: Truth, source: Rows, number: str, flux: Float) -> Rows:
    rows = np.zeros(len(source), SHINES)
    rows["truth"], rows["number"], rows["flux_njy"] = truth, source[number], flux
    rows["ra_deg"], rows["dec_deg"] = source["ra_deg"], source["dec_deg"]
    return rows


def _real(config: SurveyConfig, visit: Visit, random: np.random.Generator) -> Rows:
    rows = shining(config, visit)
    seen = rows["flux_njy"] + config.flux_err_njy * random.standard_normal(len(rows))
    lucky = random.random(len(rows)) < config.detection_fraction
    chosen = lucky & (seen >= config.detection_threshold * config.flux_err_njy)
    found = np.zeros(int(chosen.sum()), DETECTION)
    for name in SHINES.names or ():
        found[name] = rows[name][chosen]
    found["seen_njy"] = seen[chosen]
    # A centroid is as good as the width of the image over its signal-to-noise (King 1983).
    snr = found["seen_njy"] / config.flux_err_njy
    found["err_deg"] = config.seeing_deg / _FWHM_PER_SIGMA / snr
    scatter = np.hypot(found["err_deg"], config.jitter_deg)
    east, north = tangent_offsets(found["ra_deg"], found["dec_deg"], visit.ra_deg, visit.dec_deg)
    found["east_deg"] = east + scatter * random.standard_normal(len(found))
    found["north_deg"] = north + scatter * random.standard_normal(len(found))
    return found


def _false(config: SurveyConfig, random: np.random.Generator) -> Rows:
    found: Rows = np.zeros(random.poisson(config.noise_detections), DETECTION)
    half = config.field_deg / 2
    found["truth"] = Truth.NOISE
    # Beyond a threshold the tail of a Gaussian falls almost as an exponential.
    threshold = config.detection_threshold
    snr = threshold + random.exponential(1 / threshold, len(found))
    found["seen_njy"] = config.flux_err_njy * snr
    found["err_deg"] = config.seeing_deg / _FWHM_PER_SIGMA / snr
    found["east_deg"], found["north_deg"] = random.uniform(-half, half, (2, len(found)))
    return found


def _near_body(config: SurveyConfig, visit: Visit, found: Rows) -> npt.NDArray[np.bool_]:
    bodies = bodies_in(config, visit)
    if not len(bodies) or not len(found):
        return np.zeros(len(found), bool)
    sky = from_tangent(found["east_deg"], found["north_deg"], visit.ra_deg, visit.dec_deg)
    distance, _ = cKDTree(unit_vectors(bodies["ra_deg"], bodies["dec_deg"])).query(unit_vectors(*sky))
    near: npt.NDArray[np.bool_] = np.degrees(distance) < ARCSEC_DEG
    return near


def _in_field(config: SurveyConfig, east: Float, north: Float) -> npt.NDArray[np.bool_]:
    half = config.field_deg / 2
    return (east >= -half) & (east < half) & (north >= -half) & (north < half)
