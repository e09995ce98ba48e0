"""The point-spread function of optical images, as their stars show it."""

from __future__ import annotations

import numpy as np
import pytest

from extractor_skies import PIXEL_DEG, Float, add_sources, beam_moments_px, make_image, round_beam
from trapline.schemas.image import Band, Beam, Image
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import Sources
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import Measurement, measure, measure_image
from trapline.source_extractor.table import source_table

SHAPE = (500, 640)
RNG = np.random.default_rng(8)
STEPS = np.meshgrid(np.arange(30.0, 620, 32), np.arange(30.0, 480, 32))
X, Y = (axis.ravel() + RNG.uniform(-4, 4, axis.size) for axis in STEPS)


def described(beam: Beam | None = None, **changes: object) -> Image:
    return make_image(SHAPE, beam, unit="count", band=Band("r", filter="r"), **changes)


def field(seeing: Beam, snr: tuple[float, float], n: int = len(X), **cards: object) -> Float:
    """Return stars of one width in noise of rms 2 that is independent from pixel to pixel."""
    rng = np.random.default_rng(n)
    pixels = rng.normal(scale=2.0, size=SHAPE)
    peak = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]), n))
    add_sources(pixels, X[:n], Y[:n], 2 * peak, beam_moments_px(described(seeing, **cards)))
    return pixels


def found(pixels: Float, image: Image) -> Measurement:
    return measure(pixels.astype(np.float32), image, ExtractorConfig())


@pytest.mark.parametrize("fwhm_px", [1.6, 2.2, 3.0, 5.0, 8.0])
def test_the_width_of_stars_is_found(fwhm_px: float) -> None:
    psf = found(field(round_beam(fwhm_px), (15, 300)), described()).psf
    assert psf is not None
    width = np.sqrt(psf.major_deg * psf.minor_deg) / PIXEL_DEG
    assert width == pytest.approx(fwhm_px, rel=0.03)
    assert psf.major_deg / psf.minor_deg < 1.1


def test_an_elongated_one_has_its_angle_on_the_sky() -> None:
    seeing = Beam(6.0 * PIXEL_DEG, 4.0 * PIXEL_DEG, 35.0)
    psf = found(field(seeing, (30, 300), CROTA2=-40.0), described(CROTA2=-40.0)).psf
    assert psf is not None
    assert (psf.major_deg, psf.minor_deg) == pytest.approx((seeing.major_deg, seeing.minor_deg), rel=0.03)
    assert psf.pa_deg == pytest.approx(35.0, abs=3.0)


def test_galaxies_saturated_stars_and_cosmic_rays_do_not_change_it() -> None:
    pixels = field(round_beam(3.0), (20, 300), n=140)
    rng = np.random.default_rng(2)
    for row in range(140, len(X)):
        add_sources(pixels, X[[row]], Y[[row]], rng.uniform(60, 400, 1), np.eye(2) * rng.uniform(2, 9))
    add_sources(pixels, X[:10], Y[:10], np.full(10, 9e4), np.eye(2) * 1.62)
    rays = rng.integers(20, 480, (150, 2))
    pixels[rays[:, 0], rays[:, 1]] += rng.uniform(100, 1000, 150)
    psf = found(np.minimum(pixels, 3e4), described()).psf
    assert psf is not None
    assert np.sqrt(psf.major_deg * psf.minor_deg) / PIXEL_DEG == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("pixels", [field(round_beam(3.0), (50, 90), n=3), field(round_beam(3.0), (5, 12))])
def test_too_few_or_too_faint_stars_show_none(pixels: Float) -> None:
    assert found(pixels, described()).psf is None


def test_it_travels_and_is_told_and_images_with_a_restoring_beam_have_none() -> None:
    pixels = field(round_beam(3.0), (20, 300))
    measured = found(pixels, described())
    assert measured.psf is not None
    meta = source_table(measured, described()).meta
    assert meta["PSF_MAJ"] == pytest.approx(3 * 5.0, rel=0.05)
    assert measure(pixels.astype(np.float32), make_image(SHAPE, round_beam(3.0)), ExtractorConfig()).psf is None
    header = Images(schema=IMAGES_SCHEMA, id=b"r" * 16, image=described())
    record = measure_image(Message(header, {"pixels": pixels.astype(np.float32)}), ExtractorConfig(), None)
    back = decode([bytes(frame) for frame in encode(record)]).header
    assert isinstance(back, Sources)
    assert back.psf == measured.psf
