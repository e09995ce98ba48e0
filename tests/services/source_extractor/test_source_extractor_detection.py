from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from extractor_skies import (
    Pixels,
    add_sources,
    beam_moments_px,
    columns_of,
    grid_field,
    make_image,
    nearest,
    round_beam,
    smooth_noise,
)
from trapline.schemas.columns import Flag
from trapline.schemas.image import Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.detection import detect
from trapline.source_extractor.scene import prepare

IMAGE = make_image((300, 420), round_beam(4.0), margin_px=10)


def sky(image: Image, *sources: tuple[float, float, float], seed: int = 1) -> Pixels:
    """Return beam-smoothed noise of rms 1 with sources (x, y, peak)."""
    assert image.shape is not None
    moments = beam_moments_px(image)
    pixels = smooth_noise(np.random.default_rng(seed), image.shape, moments)
    x, y, peak = np.array(sources, float).reshape(-1, 3).T
    add_sources(pixels, x, y, peak, moments)
    return pixels.astype(np.float32)


def flag_at(columns: dict[str, npt.NDArray[np.generic]], x: float, y: float) -> Flag:
    distance, row = nearest(columns, x, y)
    assert distance[0] < 2, f"no source near ({x}, {y})"
    return Flag(int(columns["flags"][row[0]]))


def test_islands_are_those_of_an_independent_labelling() -> None:
    field = grid_field(2, make_image((500, 380), round_beam(4.0)), spacing_px=40.0, snr=(4, 40))
    settings = ExtractorConfig(detection_threshold=6, analysis_threshold=3)
    scene = prepare(field.pixels, field.image, settings)
    assert scene.beam is not None
    noise, islands = scene.noise, detect(scene.noise, settings, 1, scene.beam)
    ratio = noise.flat / noise.rms
    labels, count = ndimage.label(ratio > 3, structure=np.ones((3, 3)))
    peaks = np.asarray(ndimage.maximum(ratio, labels, np.arange(1, count + 1)))
    expected = 1 + np.nonzero(peaks > 6)[0]
    assert 20 < len(expected) < count
    found = labels[islands.table["ypeak"], islands.table["xpeak"]]
    assert sorted(found) == list(expected)
    sizes = np.bincount(labels.ravel())
    assert list(islands.table["npix"]) == list(sizes[found])


def test_nothing_is_found_in_noise_and_its_range_is_told() -> None:
    found = measure(sky(IMAGE), IMAGE, ExtractorConfig())
    assert len(found.columns["x"]) == 0
    assert found.rms_min is not None
    assert found.rms_max is not None
    assert 0.7 < found.rms_min < 1.0 < found.rms_max < 1.3


def test_margin_and_radius_decide_what_is_measured() -> None:
    sources = [(200.0, 150.0, 90.0), (8.0, 150.0, 90.0), (395.0, 150.0, 90.0), (209.5, 280.0, 90.0)]
    pixels = sky(IMAGE, *sources)
    assert len(measure(pixels, IMAGE, ExtractorConfig()).columns["x"]) == 3
    small = make_image((300, 420), round_beam(4.0), margin_px=10, radius_deg=140 * 5 / 3600)
    columns = columns_of(measure(pixels, small, ExtractorConfig()))
    assert columns["x"] == pytest.approx([200.0, 209.5], abs=0.2)
    assert flag_at(columns, 200, 150) == 0


def test_a_fit_that_reaches_over_an_edge_is_flagged() -> None:
    pixels = sky(IMAGE, (200.0, 150.0, 90.0), (11.0, 100.0, 90.0), (300.0, 11.0, 90.0))
    inner = columns_of(measure(pixels, IMAGE, ExtractorConfig()))
    assert [flag_at(inner, *at) for at in ((200, 150), (11, 100), (300, 11))] == [0, Flag.NEAR_EDGE, Flag.NEAR_EDGE]
    whole = make_image((300, 420), round_beam(4.0), margin_px=0)
    pixels = sky(whole, (0.6, 100.0, 90.0), (300.0, 299.0, 90.0))
    columns = columns_of(measure(pixels, whole, ExtractorConfig()))
    assert flag_at(columns, 0.6, 100) == Flag.NEAR_EDGE
    assert flag_at(columns, 300, 299) == Flag.NEAR_EDGE
    _, row = nearest(columns, [0.6, 300.0], [100.0, 299.0])
    assert columns["flux_peak"][row] == pytest.approx([90.0, 90.0], abs=6), "half a beam is enough to fit"


@pytest.mark.parametrize("how", ["mask", "nan", "inf"])
def test_masked_pixels_are_left_out_of_the_fit_and_flagged(how: str) -> None:
    pixels = sky(IMAGE, (200.0, 150.0, 300.0), (100.0, 80.0, 300.0))
    mask = np.zeros(pixels.shape, np.uint8)
    mask[150, 199:201] = 7
    if how != "mask":
        pixels[mask != 0] = np.nan if how == "nan" else np.inf
    else:
        pixels[mask != 0] = 5000.0
    columns = columns_of(measure(pixels, IMAGE, ExtractorConfig(), mask=mask if how == "mask" else None))
    assert flag_at(columns, 100, 80) == 0
    assert flag_at(columns, 200, 150) == Flag.MASKED
    _, row = nearest(columns, 200, 150)
    assert columns["flux_peak"][row[0]] == pytest.approx(300, abs=10)


def test_negative_sources_are_found_when_they_are_wanted() -> None:
    pixels = sky(IMAGE, (200.0, 150.0, 60.0), (100.3, 80.6, -70.0))
    assert len(measure(pixels, IMAGE, ExtractorConfig()).columns["x"]) == 1
    columns = columns_of(measure(pixels, IMAGE, ExtractorConfig(negative=True)))
    assert columns["y"] == pytest.approx([80.6, 150.0], abs=0.2), "in order of y, whatever the sign"
    assert columns["flux_peak"] == pytest.approx([-70, 60], abs=6)
    assert columns["flux_int"] == pytest.approx([-70, 60], abs=6)
    assert columns["snr"] == pytest.approx([-70, 60], abs=12)
    assert list(columns["flags"]) == [Flag.NEGATIVE, 0]


def test_neighbours_are_told_apart_unless_that_is_not_wanted_and_flagged() -> None:
    pixels = sky(IMAGE, (200.0, 150.0, 200.0), (206.0, 150.0, 190.0), (100.0, 80.0, 20.0), (111.0, 80.0, 20.0))
    merged = columns_of(measure(pixels, IMAGE, ExtractorConfig(deblend=False)))
    assert sorted(merged["x"]) == pytest.approx([100, 111, 200], abs=0.7), "one for the two that touch: the brighter"
    assert not (merged["flags"] & Flag.BLENDED).any()
    apart = columns_of(measure(pixels, IMAGE, ExtractorConfig()))
    flags = [flag_at(apart, *at) for at in ((200, 150), (206, 150), (100, 80), (111, 80))]
    assert [bool(flag & Flag.BLENDED) for flag in flags] == [True, True, False, False]
    _, row = nearest(apart, [200, 206], [150, 150])
    assert apart["flux_peak"][row] == pytest.approx([200, 190], abs=8)


def test_a_spike_of_one_pixel_is_no_source_of_a_well_sampled_beam() -> None:
    image = make_image((300, 420), round_beam(8.0))
    pixels = sky(image, (200.0, 150.0, 50.0))
    pixels[60, 60] += 500
    assert measure(pixels, image, ExtractorConfig()).columns["x"] == pytest.approx([200.0], abs=0.3)
    assert len(measure(pixels, image, ExtractorConfig(min_area_beams=0)).columns["x"]) == 2


def test_where_the_pixels_allow_no_fit_the_island_is_described_by_its_moments() -> None:
    pixels = sky(IMAGE)
    pixels[100, 200:240] += 100
    # One row of pixels says nothing about the position across it.
    mask = np.zeros(pixels.shape, np.uint8)
    mask[95:106, 190:250] = 1
    mask[100] = 0
    columns = columns_of(measure(pixels, IMAGE, ExtractorConfig(), mask=mask))
    assert columns["x"] == pytest.approx([219.5], abs=0.5)
    assert columns["y"] == pytest.approx([100.0], abs=0.01)
    assert columns["flags"][0] == Flag.FIT_FAILED | Flag.MASKED
    beam_area_px = np.pi * 4.0**2 / (4 * np.log(2))
    assert columns["flux_int"][0] == pytest.approx(100 * 40 / beam_area_px, rel=0.05)
    # A uniform bar has sigma = length / sqrt(12), and lies east-west.
    assert columns["major_deg"][0] * 3600 / 5 == pytest.approx(2.355 * 40 / np.sqrt(12), rel=0.05)
    assert columns["minor_deg"][0] * 3600 / 5 < 1.5
    assert columns["pa_deg"][0] == pytest.approx(90.0, abs=1)
    assert np.isnan(columns["chi2_reduced"][0])
    assert columns["ra_err_deg"][0] > columns["dec_err_deg"][0] > 0


def test_a_small_pixel_stack_grows_and_gives_the_same_sources() -> None:
    field = grid_field(4, make_image((900, 900), round_beam(6.0)), spacing_px=40.0, snr=(50, 5000))
    small = columns_of(measure(field.pixels, field.image, ExtractorConfig(pixel_stack_px=1000)))
    large = columns_of(measure(field.pixels, field.image, ExtractorConfig(pixel_stack_px=1_000_000)))
    assert len(small["x"]) == len(field.x)
    for name, column in small.items():
        assert column.tobytes() == large[name].tobytes(), name
