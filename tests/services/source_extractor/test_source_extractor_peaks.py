"""Islands of several peaks: neighbours are told apart, and what is one source stays one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest

from extractor_skies import (
    Pixels,
    add_sources,
    beam_moments_px,
    columns_of,
    make_image,
    nearest,
    round_beam,
    smooth_noise,
)
from trapline.schemas.columns import Flag
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure

Float = npt.NDArray[np.float64]

IMAGE = make_image((400, 400), round_beam(5.0), margin_px=10)
GRID = np.stack(np.meshgrid(np.arange(45.0, 400, 62), np.arange(45.0, 400, 62)), axis=-1).reshape(-1, 2)


def sky(seed: int, image: Image = IMAGE) -> Float:
    assert image.shape is not None
    return smooth_noise(np.random.default_rng(seed), image.shape, beam_moments_px(image))


def found_in(pixels: Float, image: Image = IMAGE, **settings: float) -> dict[str, npt.NDArray[np.float64]]:
    return columns_of(measure(pixels.astype(np.float32), image, ExtractorConfig(**settings)))


def pairs(seed: int, separation_px: float, peaks: tuple[float, float]) -> tuple[Float, Float, Float]:
    """Return a field of pairs in any direction, and the places of the brighter and the fainter ones."""
    rng, pixels = np.random.default_rng(seed), sky(seed)
    angle = rng.uniform(0, 2 * np.pi, len(GRID))
    one = GRID + rng.uniform(-3, 3, GRID.shape)
    other = one + separation_px * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    for place, peak in zip((one, other), peaks, strict=True):
        add_sources(pixels, *place.T, np.full(len(place), peak), beam_moments_px(IMAGE))
    return pixels, one, other


@pytest.mark.parametrize(
    ("separation_px", "peaks"), [(7.0, (30.0, 25.0)), (8.0, (100.0, 30.0)), (9.0, (1000.0, 60.0)), (12.0, (16.0, 14.0))]
)
def test_a_source_beside_a_brighter_one_is_a_source_of_its_own(
    separation_px: float, peaks: tuple[float, float]
) -> None:
    seen, pulls = [], []
    for seed in range(4):
        pixels, *places = pairs(seed, separation_px, peaks)
        columns = found_in(pixels)
        assert len(columns["x"]) <= 2 * len(GRID), "none that is not there"
        for place, peak in zip(places, peaks, strict=True):
            distance, row = nearest(columns, *place.T)
            near = distance < 1.5
            seen.append(near)
            pulls.append((columns["flux_peak"][row[near]] - peak) / columns["flux_peak_err"][row[near]])
    assert np.concatenate(seen).mean() > 0.99
    assert abs(np.concatenate(pulls).mean()) < 0.25
    assert np.concatenate(pulls).std() < 1.25


def test_parts_of_an_island_are_flagged_as_blended() -> None:
    pixels, one, other = pairs(1, 9.0, (100.0, 50.0))
    columns = found_in(pixels)
    _, row = nearest(columns, *np.concatenate([one, other]).T)
    assert (columns["flags"][row].astype(int) & Flag.BLENDED != 0).all()
    assert len(found_in(pixels, deblend=False)["x"]) == len(GRID)


@pytest.mark.parametrize("width", [1.0, 1.5, 2.5, 4.0], ids=lambda width: f"{width} beams")
@pytest.mark.parametrize("peak", [12.0, 60.0, 2000.0], ids=lambda peak: f"{peak:g} sigma")
def test_what_has_one_peak_stays_one_source(width: float, peak: float) -> None:
    for seed in range(3):
        pixels = sky(seed)
        wide = width**2 * beam_moments_px(IMAGE)
        add_sources(pixels, *GRID.T, np.full(len(GRID), peak), wide)
        # Wide ones enter the noise that is measured; what is asked here is only how many there are.
        found = measure(
            pixels.astype(np.float32), IMAGE, ExtractorConfig(), rms=np.ones(pixels.shape, np.float32)
        ).columns
        assert len(found["x"]) <= len(GRID)
        distance, _ = nearest(columns_of(measure(pixels.astype(np.float32), IMAGE, ExtractorConfig())), *GRID.T)
        assert (distance < 5 * width).mean() > 0.8


@pytest.mark.parametrize("pa_deg", [0.0, 20.0, 33.0, 45.0, 70.0])
def test_a_narrow_beam_between_the_pixels_makes_no_peaks(pa_deg: float) -> None:
    """Along the ridge of a beam of hardly a pixel, brightest pixels alternate: that is sampling, and one source."""
    image = make_image((400, 400), Beam(4.5 * 5 / 3600, 1.5 * 5 / 3600, pa_deg), margin_px=10)
    rng, pixels = np.random.default_rng(3), np.random.default_rng(4).normal(size=(400, 400))
    places = GRID + rng.uniform(-0.5, 0.5, GRID.shape)
    add_sources(pixels, *places.T, np.exp(rng.uniform(np.log(15), np.log(5000), len(GRID))), beam_moments_px(image))
    assert len(found_in(pixels, image, min_area_beams=0.5)["x"]) <= len(GRID)


def shapes() -> dict[str, Pixels]:
    """Return islands that nobody's telescope makes: flat, saturated, with holes, a ring, a comb, all of the image."""
    y, x = np.mgrid[:400, :400]
    radius = np.hypot(x - 200, y - 200)
    return {
        "flat": np.where(radius < 60, 50.0, 0.0),
        "saturated": np.minimum(5e4 * np.exp(-(radius**2) / 18), 900.0),
        "ring": 60.0 * np.exp(-((radius - 70) ** 2) / 9),
        "comb": np.where((x % 3 == 0) & (y > 150) & (y < 250), 90.0, 4.0),
        "infinite": np.where(radius < 4, np.inf, 40 * np.exp(-(radius**2) / 200)),
        "huge": np.where(radius < 30, 1e30, 0.0),
        "nan": np.where((x + y) % 5 == 0, np.nan, 30 * np.exp(-(radius**2) / 400)),
    }


@pytest.mark.parametrize("name", sorted(shapes()))
def test_hostile_islands_are_measured_in_time_and_once(name: str) -> None:
    pixels = (shapes()[name] + sky(2)).astype(np.float32)
    found = measure(pixels, IMAGE, ExtractorConfig(), rms=np.ones(pixels.shape, np.float32)).columns
    assert len(found["x"]) < 3000
    places = np.stack([found["x"], found["y"]], axis=-1)
    assert np.isfinite(places).all()


def test_an_image_that_is_no_sky_takes_neither_long_nor_much_memory() -> None:
    """Every ninth pixel of broad stripes is a maximum of its own, and the beam reaches over hundreds of them."""
    image = make_image((900, 900), round_beam(30.0), margin_px=0)
    y, x = np.mgrid[:900, :900]
    speckled = np.where((x % 3 == 1) & (y % 3 == 1), 90.0, 20.0)
    pixels = np.where(x % 60 < 20, speckled, 0.0) + np.random.default_rng(1).normal(0, 0.1, (900, 900))
    tracemalloc.start()
    found = measure(pixels.astype(np.float32), image, ExtractorConfig(), rms=np.ones(pixels.shape, np.float32)).columns
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < len(found["x"]) < 100
    assert peak < 300e6
