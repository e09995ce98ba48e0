"""`forced`: amplitudes at known positions, against sums over an ellipse of the same pixels."""

from __future__ import annotations

import numpy as np
import sep

from bench.bench_extract import beam_of, image_of
from bench.harness import Comparison, Size, Target, in_pairs, seconds_of
from bench.skies import Sky
from trapline.source_extractor.beam import FWHM_PER_SIGMA, HALF_POWER
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.detection import detect
from trapline.source_extractor.forced import measure_forced
from trapline.source_extractor.noise import flatten

_CASES: dict[Size, tuple[int, int, int]] = {"small": (512, 500, 5), "full": (2300, 10_000, 20)}


def forced(size: Size) -> list[Comparison]:
    """Compare milliseconds per image: without neighbours, and with the blind sources of the image fitted along."""
    side_px, n_positions, pairs = _CASES[size]
    sky, settings = Sky.of(side_px, 100, 1), ExtractorConfig()
    noise, beam = flatten(sky.pixels[0], None, settings.mesh_radio_px), beam_of(image_of(sky))
    at_px = np.random.default_rng(1).uniform(10, side_px - 10, (n_positions, 2))
    islands = detect(noise, settings, 1, beam)
    blind = np.stack([islands.column("x"), islands.column("y")], axis=-1)
    half = np.sqrt(np.linalg.eigvalsh(beam.covariance_px)[::-1]) * HALF_POWER

    def summed() -> float:
        x, y = np.ascontiguousarray(at_px.T)
        return 1e3 * seconds_of(lambda: sep.sum_ellipse(noise.flat, x, y, half[0], half[1], 0.0, 1.0, err=noise.rms))

    def compare(case: str, neighbours: np.ndarray) -> Comparison:
        values = in_pairs(
            lambda: 1e3 * seconds_of(lambda: measure_forced(noise, beam, at_px, neighbours)), summed, pairs, warm_up=2
        )
        joint = int((measure_forced(noise, beam, at_px, neighbours).flags != 0).sum())
        notes = {
            "pixels of a window": len(beam.window()),
            "beam, px": FWHM_PER_SIGMA * float(np.sqrt(np.linalg.det(beam.covariance_px)) ** 0.5),
            "positions with neighbours": joint,
        }
        return Comparison(f"{n_positions} positions, {case}", "ms", *values, Target("<=", 2.0), notes)

    return [compare("alone", np.zeros((0, 2))), compare("blind sources fitted along", blind)]
