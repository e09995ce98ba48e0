"""Forced photometry: unbiased at any phase, honest errors, neighbours apart, the same bits alone and in company."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import least_squares

from extractor_skies import PIXEL_DEG, add_sources, beam_moments_px, make_image, round_beam, smooth_noise
from trapline.common.wcs import parse_wcs
from trapline.schemas.columns import Flag
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.beam import PixelBeam, pixel_beam, reference_axes
from trapline.source_extractor.forced import measure_forced
from trapline.source_extractor.noise import Flattened

Float = npt.NDArray[np.float64]
ALONE = np.zeros((0, 2))
SHAPE = (420, 510)
ELONGATED = Beam(6.5 * PIXEL_DEG, 4.0 * PIXEL_DEG, 35.0)


def beam_of(image: Image) -> PixelBeam:
    assert image.wcs is not None
    assert image.beam is not None
    assert image.shape is not None
    return pixel_beam(image.beam, reference_axes(parse_wcs(image.wcs), image.shape))


def flat(pixels: Float, unusable: npt.NDArray[np.bool_] | None = None) -> Flattened:
    """Return an image whose background is known to be 0 and whose noise is known to be 1."""
    values, rms = pixels.astype(np.float32), np.ones(pixels.shape, np.float32)
    if unusable is not None:
        values[unusable], rms[unusable] = 0.0, np.inf
    return Flattened(values, rms, unusable)


def grid(rng: np.random.Generator, spacing: float) -> Float:
    """Return positions on a grid over the image, at random sub-pixel phases."""
    ny, nx = SHAPE
    x, y = np.meshgrid(np.arange(20, nx - 20, spacing), np.arange(20, ny - 20, spacing))
    at = np.stack([x.ravel(), y.ravel()], axis=-1)
    return at + rng.uniform(-0.5, 0.5, at.shape)


BEAMS = pytest.mark.parametrize(
    "beam", [round_beam(5.0), ELONGATED, round_beam(2.2)], ids=["round", "elongated", "barely sampled"]
)


@BEAMS
@pytest.mark.parametrize("snr", [0.0, 3.0, 200.0])
def test_the_flux_is_unbiased_at_any_phase_and_its_error_is_true(beam: Beam, snr: float) -> None:
    rng = np.random.default_rng(7)
    image = make_image(SHAPE, beam)
    moments, pulls = beam_moments_px(image), []
    for _ in range(12):
        pixels, at = smooth_noise(rng, SHAPE, moments), grid(rng, 30.0)
        add_sources(pixels, at[:, 0], at[:, 1], np.full(len(at), snr), moments)
        found = measure_forced(flat(pixels), beam_of(image), at, ALONE)
        assert not found.flags.any()
        pulls.append((found.amplitude - snr) / found.amplitude_err)
    whole = np.concatenate(pulls)
    assert len(whole) > 2000
    assert whole.mean() == pytest.approx(0.0, abs=0.08)
    assert whole.std() == pytest.approx(1.0, abs=0.07)


@BEAMS
def test_without_noise_the_flux_is_exact_at_any_phase(beam: Beam) -> None:
    image, at = make_image(SHAPE, beam), grid(np.random.default_rng(8), 40.0)
    pixels = np.zeros(SHAPE)
    add_sources(pixels, at[:, 0], at[:, 1], np.full(len(at), 7.0), beam_moments_px(image))
    found = measure_forced(flat(pixels), beam_of(image), at, ALONE)
    np.testing.assert_allclose(found.amplitude, 7.0, rtol=1e-5)


@BEAMS
def test_neighbours_within_two_beams_are_taken_apart(beam: Beam) -> None:
    rng = np.random.default_rng(9)
    image, pulls, naive = make_image(SHAPE, beam), [], []
    moments = beam_moments_px(image)
    to_px = np.linalg.cholesky(moments)
    for _ in range(12):
        pixels, at = smooth_noise(rng, SHAPE, moments), grid(rng, 45.0)
        turn = rng.uniform(0, 2 * np.pi, len(at))
        sigmas = rng.uniform(2.4, 4.0, len(at))[:, None]
        beside = at + (sigmas * np.stack([np.cos(turn), np.sin(turn)], axis=-1)) @ to_px.T
        add_sources(pixels, at[:, 0], at[:, 1], np.full(len(at), 10.0), moments)
        add_sources(pixels, beside[:, 0], beside[:, 1], np.full(len(at), 60.0), moments)
        image_, beam_ = flat(pixels), beam_of(image)
        found = measure_forced(image_, beam_, at, beside)
        assert set(found.flags.tolist()) == {int(Flag.BLENDED)}
        pulls.append((found.amplitude - 10) / found.amplitude_err)
        naive.append(measure_forced(image_, beam_, at, ALONE).amplitude - 10)
    whole = np.concatenate(pulls)
    assert whole.mean() == pytest.approx(0.0, abs=0.1)
    assert whole.std() == pytest.approx(1.0, abs=0.1)
    assert np.mean(naive) > 1.0, "which it would not be if the neighbour were ignored"


def test_a_joint_fit_is_the_one_that_scipy_makes() -> None:
    rng = np.random.default_rng(10)
    image = make_image(SHAPE, round_beam(5.0))
    beam, moments = beam_of(image), beam_moments_px(image)
    at, beside = np.array([[200.3, 150.8]]), np.array([[205.1, 149.0], [197.2, 155.5], [240.0, 150.0]])
    pixels = smooth_noise(rng, SHAPE, moments)
    for x, y, peak in ((200.3, 150.8, 12.0), (205.1, 149.0, 50.0), (197.2, 155.5, 30.0)):
        add_sources(pixels, np.array([x]), np.array([y]), np.array([peak]), moments)
    members = np.concatenate([at, beside[:2]])
    places = {tuple(p) for m in members for p in (np.rint(m).astype(int) + beam.window()).tolist()}
    px = np.array(sorted(places))
    inverse = np.linalg.inv(moments)
    offset = px[None] - members[:, None]
    templates = np.exp(-0.5 * np.einsum("kni,ij,knj->kn", offset, inverse, offset))
    values = pixels[px[:, 1], px[:, 0]].astype(np.float32)
    fitted = least_squares(lambda a: a @ templates - values, np.ones(3)).x
    assert measure_forced(flat(pixels), beam, at, beside).amplitude[0] == pytest.approx(fitted[0], rel=1e-6)


def test_a_blind_source_within_half_power_is_the_source_itself() -> None:
    image = make_image(SHAPE, round_beam(5.0))
    at, pixels = np.array([[100.2, 90.7]]), np.zeros(SHAPE)
    add_sources(pixels, at[:, 0], at[:, 1], np.array([9.0]), beam_moments_px(image))
    found = measure_forced(flat(pixels), beam_of(image), at, at + 0.4)
    assert found.amplitude[0] == pytest.approx(9.0, rel=1e-5)
    assert not found.flags.any()


def test_each_position_gives_the_same_bits_alone_and_in_any_company() -> None:
    rng = np.random.default_rng(11)
    image = make_image(SHAPE, ELONGATED)
    noise, beam = flat(smooth_noise(rng, SHAPE, beam_moments_px(image))), beam_of(image)
    at = rng.uniform(-2, 520, (700, 2))
    blind = rng.uniform(0, 500, (150, 2))
    together = measure_forced(noise, beam, at, blind)
    assert {0, 1, 2} <= {int(np.sum(np.hypot(*(beam.to_sigma @ (blind - p).T)) < 4.7)) for p in at}
    shuffled = rng.permutation(len(at))
    others = measure_forced(noise, beam, at[shuffled], blind)
    for name in ("amplitude", "amplitude_err", "rms", "flags"):
        whole = getattr(together, name)
        np.testing.assert_array_equal(whole[shuffled], getattr(others, name))
        alone = [getattr(measure_forced(noise, beam, at[i : i + 1], blind), name)[0] for i in range(0, len(at), 7)]
        np.testing.assert_array_equal(whole[::7], alone)


def test_what_is_off_the_image_or_masked_is_nan_and_says_so() -> None:
    image = make_image(SHAPE, round_beam(5.0))
    unusable = np.zeros(SHAPE, bool)
    unusable[100:140, 200:240] = True
    pixels = np.ones(SHAPE)
    at = np.array([[-3.0, 10], [510, 10], [10, -0.6], [10, 419.6], [np.nan, 10], [220, 120], [199.0, 120], [50, 50]])
    found = measure_forced(flat(pixels, unusable), beam_of(image), at, np.array([[220.0, 121.0]]))
    for i in range(6):
        assert np.isnan([found.amplitude[i], found.amplitude_err[i], found.rms[i]]).all(), at[i]
        assert found.flags[i] & Flag.NO_PIXELS
    assert found.flags[5] & Flag.MASKED
    assert found.flags[6] == Flag.MASKED, "half of its beam is there, and is measured"
    assert np.isfinite([found.amplitude[6], found.amplitude[7]]).all()
    assert found.amplitude_err[6] > found.amplitude_err[7]


def test_neighbours_on_top_of_one_another_do_no_harm() -> None:
    image = make_image(SHAPE, round_beam(5.0))
    at, pixels = np.array([[100.0, 90.0]]), np.zeros(SHAPE)
    add_sources(pixels, np.array([100.0, 106.0]), np.array([90.0, 90.0]), np.array([5.0, 40.0]), beam_moments_px(image))
    twice = np.array([[106.0, 90.0]] * 12)
    found = measure_forced(flat(pixels), beam_of(image), at, twice)
    assert found.amplitude[0] == pytest.approx(5.0, rel=1e-4)
    assert np.isfinite(found.amplitude_err[0])


def test_nothing_to_measure_is_nothing() -> None:
    image = make_image(SHAPE, round_beam(5.0))
    assert measure_forced(flat(np.zeros(SHAPE)), beam_of(image), ALONE, ALONE).amplitude.shape == (0,)
