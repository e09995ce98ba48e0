"""What an extractor should have found: fields of sources at random places, matching, completeness, purity and pulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from extractor_skies import PIXEL_DEG, Field, Float, Int, add_sources, beam_moments_px, columns_of, smooth_noise
from trapline.schemas.image import Image
from trapline.source_extractor.core import Measurement

MATCH_BEAMS = 0.5
"""How far from its source a detection may lie, in full widths at half maximum of the beam."""


def random_field(seed: int, image: Image, n_sources: int, snr: tuple[float, float]) -> Field:
    """Return a field of sources at random places 20 px from the edge, log-uniform in signal to noise, of rms 1."""
    assert image.shape is not None
    rng = np.random.default_rng(seed)
    ny, nx = image.shape
    moments = beam_moments_px(image)
    x, y = rng.uniform(20, nx - 20, n_sources), rng.uniform(20, ny - 20, n_sources)
    peak = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), n_sources))
    pixels = smooth_noise(rng, image.shape, moments)
    add_sources(pixels, x, y, peak, moments)
    return Field(pixels.astype(np.float32), image, x, y, peak)


@dataclass(frozen=True)
class Found:
    """Detections: 0-based positions in pixels, fluxes, and 1-sigma errors of each, (m,)."""

    x: Float
    y: Float
    x_err: Float
    y_err: Float
    peak: Float
    peak_err: Float
    total: Float
    total_err: Float
    snr: Float

    @classmethod
    def of(cls, found: Measurement) -> Found:
        """Return ours, in an image whose axes are east-west and north-south."""
        c = columns_of(found)
        errors = c["ra_err_deg"] / PIXEL_DEG, c["dec_err_deg"] / PIXEL_DEG
        peak, total = (c["flux_peak"], c["flux_peak_err"]), (c["flux_int"], c["flux_int_err"])
        return cls(c["x"], c["y"], *errors, *peak, *total, c["snr"])


@dataclass(frozen=True)
class Score:
    """A field and what was found in it: `detection` (n,) of each source, `source` (m,) of each detection, or -1."""

    field: Field
    found: Found
    detection: Int
    source: Int

    @classmethod
    def of(cls, field: Field, found: Found) -> Score:
        """Match one to one, the brightest detection first, with the brightest source that is near it."""
        reach = MATCH_BEAMS * beam_px(field.image)
        detection, source = np.full(len(field.x), -1), np.full(len(found.x), -1)
        near = cKDTree(_places(field)).query_ball_point(_places(found), reach) if len(found.x) else []
        for row in np.argsort(-found.peak):
            free = [one for one in near[row] if detection[one] < 0]
            if free:
                best = max(free, key=lambda one: field.peak[one])
                detection[best], source[row] = row, best
        return cls(field, found, detection, source)

    def alone(self, beams: float = 3.0) -> npt.NDArray[np.bool_]:
        """Return which sources (n,) have no other within so many beams."""
        if len(self.field.x) < 2:
            return np.ones(len(self.field.x), bool)
        distance, _ = cKDTree(_places(self.field)).query(_places(self.field), k=[2])
        return np.asarray(np.ravel(distance) > beams * beam_px(self.field.image))

    def pulls(self, lowest_snr: float = 8.0) -> dict[str, Float]:
        """Return (measured - true) / error of what was found of the sources that are alone, and not too faint."""
        rows = np.flatnonzero((self.detection >= 0) & self.alone() & (self.field.peak >= lowest_snr))
        f, d = self.found, self.detection[rows]
        true = self.field
        return {
            "flux_peak": (f.peak[d] - true.peak[rows]) / f.peak_err[d],
            "flux_int": (f.total[d] - true.peak[rows]) / f.total_err[d],
            "x": (f.x[d] - true.x[rows]) / f.x_err[d],
            "y": (f.y[d] - true.y[rows]) / f.y_err[d],
        }


@dataclass(frozen=True)
class Curves:
    """Sources and those found, detections and those false, counted in bins of signal to noise, `edges` (k + 1,)."""

    edges: Float
    sources: Int
    found: Int
    detections: Int
    false: Int

    @property
    def completeness(self) -> Float:
        """Found fraction of the sources of a true signal to noise; NaN where there are none."""
        return _ratio(self.found, self.sources)

    @property
    def purity(self) -> Float:
        """Fraction of the detections of a measured signal to noise that are sources; NaN where there are none."""
        return _ratio(self.detections - self.false, self.detections)


def curves(scores: Sequence[Score], edges: npt.ArrayLike) -> Curves:
    """Return completeness by the true, and purity by the measured signal to noise."""
    edges = np.asarray(edges, float)
    true = np.concatenate([score.field.peak for score in scores])
    seen = np.concatenate([score.detection for score in scores]) >= 0
    snr = np.concatenate([score.found.snr for score in scores])
    false = np.concatenate([score.source for score in scores]) < 0
    counts = [np.histogram(values, edges)[0] for values in (true, true[seen], snr, snr[false])]
    return Curves(edges, *counts)


def expected_false(image: Image, area_px: float, threshold: float) -> float:
    """Return how many maxima of noise smoothed by the beam exceed a threshold, in sigma: `area_px` away from any edge.

    Expectation of the Euler characteristic of the set above the threshold (Adler 1981, The Geometry of Random Fields),
    which for high thresholds is the number of its maxima; for an autocorrelation ``exp(-r C^-1 r / 4)`` of second
    moments C the determinant of its curvature is ``1 / (4 |C|)``.
    """
    curvature = 1 / (2 * np.sqrt(np.linalg.det(beam_moments_px(image))))
    return float(area_px * curvature / (2 * np.pi) ** 1.5 * threshold * np.exp(-(threshold**2) / 2))


def beam_px(image: Image) -> float:
    """Return the full width at half maximum, the geometric mean of both axes."""
    return float(np.sqrt(8 * np.log(2)) * np.linalg.det(beam_moments_px(image)) ** 0.25)


def _places(of: Field | Found) -> Float:
    return np.stack([of.x, of.y], axis=-1)


def _ratio(part: Int, whole: Int) -> Float:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
