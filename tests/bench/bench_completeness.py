"""`completeness`: the fraction of sources found, and of detections that are sources, over signal to noise and crowding.

Fields of sources at random places, log-uniform in signal to noise, are measured from the threshold of five sigma on. In
the open field ours is compared with what the noise allows: of a source of true signal to noise S the fitted peak is
above T with the probability of a normal deviate above T - S. Crowding is told in beams per source. False detections of
noise alone are compared with their expected number, at several thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr

from bench.harness import Comparison, InvalidRunError, Note, Size, watched
from bench.report import RESULTS
from extractor_skies import beam_moments_px, make_image, round_beam, smooth_noise
from extractor_truth import Curves, Found, Score, curves, expected_false, random_field
from trapline.schemas.image import Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure

THRESHOLD = 5.0
EDGES = np.array([3, 4, 4.5, 5, 5.5, 6, 7, 8, 10, 14, 20, 40, 100.0])
BEAMS_PER_SOURCE = (400, 100, 50, 25)
_SNR = (3.0, 100.0)
_MARGIN_PX = 20
_IMAGES: dict[Size, tuple[int, int]] = {"small": (12, 400), "full": (24, 1000)}


def completeness(size: Size) -> list[Comparison]:
    """Compare the completeness in the open field with what noise allows; note all curves, and false detections."""
    images, side_px = _IMAGES[size]
    image = make_image((side_px, side_px + 40), round_beam(4.5), margin_px=_MARGIN_PX)
    found = {beams: crowded(image, beams, images) for beams in watched(BEAMS_PER_SOURCE)}
    notes: dict[str, Note] = {"drawn": str(draw(found))}
    for beams, curve in found.items():
        notes[f"{beams} beams a source, completeness"] = table(curve, curve.completeness)
        notes[f"{beams} beams a source, purity"] = table(curve, curve.purity)
    few = found[BEAMS_PER_SOURCE[0]]
    known = few.sources >= 10
    ours, allowed = few.completeness[known], allowed_by_noise(few)[known]
    if not known.any():
        raise InvalidRunError("there are too few sources")
    cases = [Comparison("completeness in the open field", "fraction", ours.tolist(), allowed.tolist(), notes=notes)]
    return [*cases, _noise_alone(image, images)]


def crowded(image: Image, beams_per_source: float, images: int) -> Curves:
    """Return completeness and purity of fields with so many beams a source."""
    assert image.shape is not None
    ny, nx = image.shape
    area = 2 * np.pi * np.sqrt(np.linalg.det(beam_moments_px(image)))
    n = int((nx - 2 * _MARGIN_PX) * (ny - 2 * _MARGIN_PX) / area / beams_per_source)
    settings = ExtractorConfig(detection_threshold=THRESHOLD)
    fields = (random_field(1000 * images + seed, image, n, _SNR) for seed in range(images))
    return curves([Score.of(field, Found.of(measure(field.pixels, image, settings))) for field in fields], EDGES)


def false_of_noise(image: Image, images: int, threshold: float) -> int:
    """Return how many sources are found in images of noise alone."""
    settings, moments = ExtractorConfig(detection_threshold=threshold), beam_moments_px(image)
    assert image.shape is not None
    shape = image.shape
    skies = (smooth_noise(np.random.default_rng(seed), shape, moments).astype(np.float32) for seed in range(images))
    return sum(len(measure(sky, image, settings).columns["x"]) for sky in skies)


def area_px(image: Image) -> int:
    """Return how many pixels are measured."""
    assert image.shape is not None
    return (image.shape[0] - 2 * image.margin_px) * (image.shape[1] - 2 * image.margin_px)


def allowed_by_noise(curve: Curves) -> np.ndarray:
    """Return the completeness that noise allows in each bin: the mean over its sources, log-uniform."""
    means = [np.exp(np.linspace(np.log(low), np.log(high), 50)) for low, high in pairwise(curve.edges.tolist())]
    return np.array([ndtr(snr - THRESHOLD).mean() for snr in means])


def table(curve: Curves, values: np.ndarray) -> str:
    """Return the values bin by bin."""
    bins = pairwise(curve.edges.tolist())
    return ", ".join(f"{low:g}-{high:g}: {value:.3f}" for (low, high), value in zip(bins, values, strict=True))


def _noise_alone(image: Image, images: int) -> Comparison:
    thresholds = (3.5, 4.0, 4.5)
    found = [false_of_noise(image, images, threshold) for threshold in watched(thresholds)]
    expected = [images * expected_false(image, area_px(image), threshold) for threshold in thresholds]
    pairs = zip(thresholds, found, expected, strict=True)
    notes: dict[str, Note] = {f"above {t:g} sigma": f"{n} found, {e:.1f} expected" for t, n, e in pairs}
    return Comparison("false detections of noise alone", "number", found, expected, notes=notes)


def draw(found: dict[int, Curves], directory: Path = RESULTS) -> Path:
    """Draw completeness over true and purity over measured signal to noise; return where."""
    directory.mkdir(exist_ok=True)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for beams, curve in found.items():
        _curve(left, curve.edges, curve.completeness, f"{beams} beams a source")
        _curve(right, curve.edges, curve.purity, f"{beams} beams a source")
    snr = np.geomspace(3, 100, 200)
    left.plot(snr, ndtr(snr - THRESHOLD), color="k", lw=0.8, ls=":", label="noise alone allows")
    left.set(title="sources found", xlabel="true signal to noise", ylabel="fraction", ylim=(-0.03, 1.05))
    right.set(title="detections that are sources", xlabel="measured signal to noise")
    for axes in (left, right):
        axes.set(xscale="log")
        axes.set_xticks([3, 5, 8, 12, 20, 50, 100], ["3", "5", "8", "12", "20", "50", "100"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    path = directory / "completeness.png"
    figure.savefig(path, dpi=80)
    return path


def _curve(axes: object, edges: np.ndarray, values: Sequence[float] | np.ndarray, label: str) -> None:
    centre = np.sqrt(edges[1:] * edges[:-1])
    axes.plot(centre, values, marker="o", ms=3, lw=1, label=label)  # type: ignore[attr-defined]
