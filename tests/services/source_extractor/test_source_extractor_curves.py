"""Completeness and false detections over signal to noise and crowding; `trapline bench completeness` draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.bench_completeness import allowed_by_noise, area_px, draw, false_of_noise
from extractor_skies import make_image, round_beam
from extractor_truth import Found, Score, beam_px, curves, expected_false, random_field
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure

IMAGE = make_image((700, 1000), round_beam(4.5), margin_px=20)
EDGES = np.array([3, 4, 5, 6, 7, 8, 12, 100.0])
AT_FIVE_SIGMA = ExtractorConfig(detection_threshold=5.0)


def scores(n_sources: int, images: int, seed: int = 0) -> list[Score]:
    fields = [random_field(seed + i, IMAGE, n_sources, (3, 100)) for i in range(images)]
    return [Score.of(field, Found.of(measure(field.pixels, IMAGE, AT_FIVE_SIGMA))) for field in fields]


def test_of_sources_that_stand_alone_as_many_are_found_as_the_noise_allows() -> None:
    whole = [score for score in scores(250, 8) if score.alone().any()]
    true = np.concatenate([score.field.peak[score.alone()] for score in whole])
    seen = np.concatenate([(score.detection >= 0)[score.alone()] for score in whole])
    n, found = (np.histogram(values, EDGES)[0] for values in (true, true[seen]))
    assert n.min() > 50
    allowed = allowed_by_noise(curves(whole, EDGES))
    # The highest of some pixels is taken, which helps the faintest; the mesh takes a few hundredths of the noise.
    scatter = np.sqrt(allowed * (1 - allowed) / n)
    assert (np.abs(found / n - allowed) < 4 * scatter + 0.06).all(), (found / n, allowed)
    assert (found / n)[EDGES[:-1] >= 8].min() > 0.99


@pytest.mark.parametrize(("beams_per_source", "least"), [(200, 0.95), (50, 0.9), (25, 0.83)])
def test_crowding_hides_few_bright_sources_and_makes_up_none(beams_per_source: int, least: float) -> None:
    n_sources = int(area_px(IMAGE) / (beam_px(IMAGE) ** 2 * 1.133) / beams_per_source)
    found = scores(n_sources, 3, seed=100)
    curve = curves(found, [5, 8, 100])
    assert curve.completeness[-1] > least
    assert curve.purity.min() > 0.985
    alone = [(score.detection >= 0)[score.alone(2.0) & (score.field.peak > 9)] for score in found]
    assert np.concatenate(alone).mean() > 0.98, "what stands alone is found, however many there are elsewhere"


@pytest.mark.parametrize(("threshold", "images"), [(3.5, 2), (4.0, 8)])
def test_noise_alone_exceeds_a_threshold_about_as_often_as_it_should(threshold: float, images: int) -> None:
    expected = images * expected_false(IMAGE, area_px(IMAGE), threshold)
    found = false_of_noise(IMAGE, images, threshold)
    # Where the noise map is low by chance there are more than are missing where it is high.
    assert 0.8 * expected < found < 1.4 * expected, (found, expected)


def test_at_five_sigma_noise_alone_makes_no_sources() -> None:
    assert false_of_noise(IMAGE, 6, 5.5) == 0
    assert false_of_noise(IMAGE, 6, 5.0) <= 4


def test_the_curves_are_drawn(tmp_path: Path) -> None:
    found = {400: curves(scores(30, 1), EDGES), 50: curves(scores(3, 1), EDGES)}
    assert draw(found, tmp_path).read_bytes().startswith(b"\x89PNG")
