"""The noise map: as good as sep's, better where the sky is crowded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import sep

from extractor_skies import add_sources, beam_moments_px, columns_of, grid_field, make_image, round_beam, smooth_noise
from trapline.source_extractor import mesh
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.noise import flatten

Float = npt.NDArray[np.float64]
SHAPE = (800, 1000)
FWHM_PX = 4.5
SIGMA_PX = FWHM_PX / 2.3548
MOMENTS = beam_moments_px(make_image(SHAPE, round_beam(FWHM_PX)))
MESH_PX = 50


def smooth(seed: int) -> Float:
    return smooth_noise(np.random.default_rng(seed), SHAPE, MOMENTS)


def white(seed: int) -> Float:
    return np.random.default_rng(seed).normal(size=SHAPE)


def crowded(seed: int) -> Float:
    """Return noise with one source per nine beams, their counts as in Euclidean space from 5 sigma on."""
    rng, pixels = np.random.default_rng(seed), smooth(seed)
    peak = 5 * (1 - rng.uniform(0, 1 - 1e-3, 4000)) ** (-1 / 1.5)
    add_sources(pixels, rng.uniform(0, 999, 4000), rng.uniform(0, 799, 4000), peak, MOMENTS)
    return pixels


def bright(seed: int) -> Float:
    """Return noise with a source of 200 sigma that covers a few cells."""
    pixels = smooth(seed)
    add_sources(pixels, [500], [400], [200], 300 * MOMENTS)
    return pixels


def errors(sky: Callable[[int], Float], smooth_px: float) -> dict[str, Float]:
    """Return the deviations of level and noise from 0 and 1, ours and sep's, in the middle of every cell."""
    found: dict[str, list[Float]] = {"level": [], "rms": [], "sep level": [], "sep rms": []}
    middle = slice(MESH_PX // 2, None, MESH_PX)
    for seed in range(6):
        pixels = sky(seed).astype(np.float32)
        noise, theirs = flatten(pixels, None, MESH_PX, smooth_px), sep.Background(pixels, bw=MESH_PX, bh=MESH_PX)
        found["level"].append((pixels - noise.flat)[middle, middle])
        found["rms"].append(noise.rms[middle, middle] - 1)
        found["sep level"].append(theirs.back()[middle, middle])
        found["sep rms"].append(theirs.rms()[middle, middle] - 1)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(("sky", "smooth_px"), [(smooth, SIGMA_PX), (white, 0.0)], ids=["smooth", "white"])
def test_a_sampled_noise_map_is_as_good_as_one_of_all_pixels(sky: Callable[[int], Float], smooth_px: float) -> None:
    found = errors(sky, smooth_px)
    for name in ("level", "rms"):
        # White noise pays a twentieth for the tighter clipping.
        assert found[name].std() < 1.1 * found[f"sep {name}"].std(), name
    assert abs(found["level"].mean()) < 0.01
    # sep's is low by 2 to 3 %: it clips at 3 sigma and does not say so.
    assert abs(found["rms"].mean()) < 0.6 * abs(found["sep rms"].mean())


def test_one_look_at_all_pixels_gives_what_sorting_them_would(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = white(3).astype(np.float32) + 30_000
    add_sources(pixels, [500.3], [400.2], [200], 100 * MOMENTS)
    pixels[100:160, 200:260] = np.nan
    pixels[300:400, 640:800] = 7.0
    quick = flatten(pixels, None, 64)
    monkeypatch.setattr(mesh, "_FEWEST_WHOLE", 1 << 30)
    sorted_ = flatten(pixels, None, 64)
    usable = np.isfinite(sorted_.rms)
    assert np.array_equal(usable, np.isfinite(quick.rms))
    for one, other, least in ((quick.flat, sorted_.flat, 0.05), (quick.rms, sorted_.rms, 0.03)):
        difference = one[usable].astype(float) - other[usable]
        assert abs(difference.mean()) < 0.005
        assert np.median(np.abs(difference)) < least / 3
        assert np.percentile(np.abs(difference), 99) < 3 * least


def test_a_cell_of_which_no_sorted_pixel_is_left_takes_its_neighbours() -> None:
    pixels = white(3).astype(np.float32)
    cell = pixels[64:128, 128:192]
    cell[(np.arange(64 * 64) % 5 == 0).reshape(64, 64)] = np.nan
    noise = flatten(pixels, None, 64)
    assert noise.rms[96, 161] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("sky", [crowded, bright])
def test_sources_hardly_raise_the_noise(sky: Callable[[int], Float]) -> None:
    found = errors(sky, SIGMA_PX)
    assert found["rms"].mean() < 0.85 * found["sep rms"].mean()
    assert np.abs(found["rms"]).max() < np.abs(found["sep rms"]).max()
    assert np.abs(found["level"]).mean() < 1.15 * np.abs(found["sep level"]).mean()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (61, 40), (777, 523), (801, 1001)])
def test_every_pixel_has_a_level_and_a_noise(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).normal(100.0, 2.0, shape).astype(np.float32)
    noise = flatten(pixels, None, MESH_PX, SIGMA_PX)
    if pixels.size == 1:
        assert noise.unusable is not None
        return
    assert noise.unusable is None
    assert noise.rms == pytest.approx(np.full(shape, 2.0), rel=0.5)
    assert (pixels - noise.flat) == pytest.approx(np.full(shape, 100.0), abs=2.0)


def test_a_slope_is_followed_to_the_edge() -> None:
    y, x = np.mgrid[:400, :600].astype(float)
    slope = 0.05 * x - 0.02 * y + 7
    pixels = (np.random.default_rng(4).normal(size=slope.shape) + slope).astype(np.float32)
    level = pixels - flatten(pixels, None, MESH_PX).flat
    assert np.abs(level - slope).max() < 0.35
    assert np.abs(level - slope).std() < 0.08


def test_a_cell_without_pixels_takes_its_neighbours() -> None:
    pixels = np.random.default_rng(5).normal(30.0, 1.0, (400, 400)).astype(np.float32)
    pixels[100:200, 100:200] = np.nan
    pixels[150, 150] = 30.0
    noise = flatten(pixels, None, MESH_PX)
    assert noise.unusable is not None
    assert noise.unusable.sum() == 9999
    assert noise.rms[150, 150] == pytest.approx(1.0, abs=0.1)
    assert np.isinf(noise.rms[120, 120])
    assert noise.flat[120, 120] == 0.0


def test_a_noise_map_can_be_given() -> None:
    image = make_image((500, 700), round_beam(4.0), margin_px=10)
    field = grid_field(3, image, spacing_px=70.0, snr=(20, 60))
    slope = np.linspace(1.0, 3.0, 700, dtype=np.float32)[None].repeat(500, axis=0)
    slope[:, 350:360] = np.nan
    pixels = (field.pixels * np.linspace(1.0, 3.0, 700)[None]).astype(np.float32)
    found = measure(pixels, image, ExtractorConfig(detection_threshold=5.0), rms=slope)
    columns = columns_of(found)
    assert (found.rms_min, found.rms_max) == pytest.approx((slope[0, 10], slope[0, 689]), rel=0.01)
    inside = ~((columns["x"] > 340) & (columns["x"] < 370))
    expected = columns["flux_peak"][inside] / np.interp(
        columns["x"][inside], np.arange(700), np.linspace(1.0, 3.0, 700)
    )
    assert columns["snr"][inside] == pytest.approx(expected, rel=0.01)
    with pytest.raises(ValueError, match="noise map"):
        measure(pixels, image, ExtractorConfig(), rms=slope[:-1])


def test_sources_of_another_image_are_measured_in_this_one() -> None:
    image = make_image((500, 700), round_beam(4.0), margin_px=10)
    deep = grid_field(3, image, spacing_px=70.0, snr=(50, 90))
    shallow = smooth_noise(np.random.default_rng(9), (500, 700), beam_moments_px(image))
    add_sources(shallow, deep.x, deep.y, 0.1 * deep.peak, beam_moments_px(image))
    pixels = shallow.astype(np.float32)
    expected = columns_of(measure(deep.pixels, image, ExtractorConfig()))
    columns = columns_of(measure(pixels, image, ExtractorConfig(), detection=deep.pixels))
    for name in ("x", "y", "ra_deg", "ra_err_deg", "source_id"):
        assert columns[name].tobytes() == expected[name].tobytes(), name
    pulls = (columns["flux_peak"] - 0.1 * expected["flux_peak"]) / columns["flux_peak_err"]
    assert len(pulls) == len(deep.x)
    assert abs(pulls.mean()) < 0.35
    assert pulls.std() == pytest.approx(1.0, abs=0.3)
    assert columns["snr"].min() < 8, "fainter than what would be found here"
