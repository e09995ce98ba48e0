"""Sources that are not alone, and sources that are not points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from extractor_skies import (
    PIXEL_DEG,
    Field,
    add_sources,
    beam_moments_px,
    columns_of,
    make_image,
    nearest,
    round_beam,
    smooth_noise,
)
from trapline.schemas.columns import Flag
from trapline.source_extractor.beam import pixel_beam
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.groups import MOST_MEMBERS, grouped

Float = npt.NDArray[np.float64]

IMAGE = make_image((1024, 832), round_beam(5.0), margin_px=10)
MOMENTS = beam_moments_px(IMAGE)
AXES = pytest.mark.parametrize("force_beam", [True, False], ids=["axes of the beam", "axes of their own"])


def chains(seed: int, members: int, separation_px: float) -> Field:
    """Return a field of sources in straight rows of any direction, the rows far from one another."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(np.arange(50.0, 800, 90), np.arange(50.0, 1000, 90))
    x, y = (axis.ravel() + rng.uniform(-4, 4, axis.size) for axis in grid)
    angle, along = rng.uniform(0, 2 * np.pi, x.size), separation_px * (np.arange(members) - (members - 1) / 2)
    x, y = (x + np.outer(along, np.cos(angle))).ravel(), (y + np.outer(along, np.sin(angle))).ravel()
    peak = np.exp(rng.uniform(np.log(20), np.log(60), x.size))
    pixels = smooth_noise(rng, (1024, 832), MOMENTS)
    add_sources(pixels, x, y, peak, MOMENTS)
    return Field(pixels.astype(np.float32), IMAGE, x, y, peak)


def wide(seed: int, shape: Float) -> Field:
    """Return a field of isolated Gaussians, `shape` (2, 2) times as wide as the beam."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(np.arange(45.0, 800, 90), np.arange(45.0, 1000, 90))
    x, y = (axis.ravel() + rng.uniform(-4, 4, axis.size) for axis in grid)
    peak = np.exp(rng.uniform(np.log(8), np.log(500), x.size))
    pixels = smooth_noise(rng, (1024, 832), MOMENTS)
    add_sources(pixels, x, y, peak, shape @ MOMENTS @ shape.T)
    return Field(pixels.astype(np.float32), IMAGE, x, y, peak)


@AXES
@pytest.mark.parametrize(("members", "separation_px"), [(2, 7.0), (3, 8.0), (MOST_MEMBERS + 1, 8.0)])
def test_neighbours_are_fitted_together(members: int, separation_px: float, force_beam: bool) -> None:
    settings = ExtractorConfig(detection_threshold=5.0, force_beam=force_beam)
    flux, east = [], []
    for field in (chains(seed, members, separation_px) for seed in range(3)):
        columns = columns_of(measure(field.pixels, IMAGE, settings))
        distance, row = nearest(columns, field.x, field.y)
        seen = distance < 1.5
        assert seen.mean() > 0.97
        row = row[seen]
        assert (columns["flags"][row] & Flag.BLENDED != 0).mean() > 0.95
        flux.append((columns["flux_peak"][row] - field.peak[seen]) / columns["flux_peak_err"][row])
        east.append((columns["x"][row] - field.x[seen]) * PIXEL_DEG / columns["ra_err_deg"][row])
    for pulls in map(np.concatenate, (flux, east)):
        # Fitted one by one, fluxes of such neighbours are off by 0.2 to 0.6 sigma, and places by twice their error.
        assert pulls.mean() == pytest.approx(0.0, abs=0.15)
        assert pulls.std() == pytest.approx(1.0, abs=0.1)


def test_every_source_is_kept_once_whatever_its_group() -> None:
    beam = pixel_beam(round_beam(5.0), np.diag([-PIXEL_DEG, PIXEL_DEG]))
    rng = np.random.default_rng(3)
    crowd = np.concatenate([rng.uniform(0, 2000, (300, 2)), rng.uniform(0, 60, (60, 2)), np.full((12, 2), 1500.0)])
    groups = grouped(crowd, beam, 1e5)
    kept = np.concatenate([group.members[:, : group.kept].ravel() for group in groups])
    assert sorted(kept) == list(range(len(crowd)))
    assert max(group.members.shape[1] for group in groups) == MOST_MEMBERS
    assert {group.members.shape[1] for group in groups} >= {1, 2}
    (confused,) = grouped(crowd, beam, 1000)
    assert confused.members.shape == (len(crowd), 1), "less than ten beams a source: each alone"


@pytest.mark.parametrize("shape", [np.diag([1.5, 1.5]), np.array([[2.0, 0.3], [0.3, 1.2]])], ids=["round", "elongated"])
def test_extended_sources_are_measured_with_axes_of_their_own(shape: Float) -> None:
    flux_peak, flux_int = [], []
    for field in (wide(seed, shape) for seed in range(6)):
        columns = columns_of(measure(field.pixels, IMAGE, ExtractorConfig(detection_threshold=5.0, force_beam=False)))
        distance, row = nearest(columns, field.x, field.y)
        assert distance.max() < 4
        true = field.peak * np.linalg.det(shape)
        assert (columns["flags"][row][field.peak > 30] & Flag.EXTENDED != 0).all()
        flux_peak.append((columns["flux_peak"][row] - field.peak) / columns["flux_peak_err"][row])
        flux_int.append((columns["flux_int"][row] - true) / columns["flux_int_err"][row])
        bright = row[field.peak > 300]
        size = np.sqrt(columns["major_deg"][bright] * columns["minor_deg"][bright]) / (5 * PIXEL_DEG)
        assert size == pytest.approx(np.full(len(bright), np.sqrt(np.linalg.det(shape))), rel=0.03)
    for pulls in map(np.concatenate, (flux_peak, flux_int)):
        assert pulls.mean() == pytest.approx(0.0, abs=0.15)
        assert pulls.std() == pytest.approx(1.0, abs=0.1)


def test_extended_sources_are_flagged_also_with_the_axes_of_the_beam() -> None:
    field = wide(1, np.diag([1.3, 1.3]))
    columns = columns_of(measure(field.pixels, IMAGE, ExtractorConfig(detection_threshold=5.0)))
    _, row = nearest(columns, field.x, field.y)
    flagged = columns["flags"][row] & Flag.EXTENDED != 0
    assert flagged[field.peak > 50].all()
    assert columns["major_deg"][row] == pytest.approx(np.full(len(row), 5 * PIXEL_DEG), rel=1e-5)
    assert np.array_equal(columns["flux_int"], columns["flux_peak"])
