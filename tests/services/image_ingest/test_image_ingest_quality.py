from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.stats import sigma_clip

from ingest_inputs import noise
from trapline.image_ingest.config import QualityLimits
from trapline.image_ingest.quality import Measured, RmsHistory, centre_of, clipped_rms, judge, measure
from trapline.schemas.image import Band, Beam, Image, Quality, Reason

FINE = Measured(-5.0, 5.0, 1.0)
PIXEL_DEG = 0.001


def checks(reasons: list[Reason]) -> list[str]:
    return [reason.check for reason in reasons]


def judged(
    measured: Measured = FINE, beam: Beam | None = None, *, exposure_s: float = 1.0, **limits: Any
) -> list[Reason]:
    earlier = limits.pop("earlier", ())
    return judge(QualityLimits(**limits), measured, beam, PIXEL_DEG, exposure_s, earlier)


def test_the_clipped_rms_is_that_of_astropy() -> None:
    for seed in range(5):
        pixels = noise((128, 128), seed, rms=0.3)
        pixels[20:25, 30:36] += 50
        pixels[70, 80] = -20
        pixels[:5] = np.nan
        clipped: Any = sigma_clip(pixels[np.isfinite(pixels)].astype(float), sigma=4, maxiters=None, cenfunc="mean")
        expected = np.ma.std(clipped)
        assert clipped_rms(pixels, 4.0) == pytest.approx(float(expected), rel=1e-4)


def test_sources_hardly_change_the_noise() -> None:
    pixels = noise((1024, 1024), 3, rms=0.01)
    rng = np.random.default_rng(1)
    pixels[rng.integers(0, 1024, 2000), rng.integers(0, 1024, 2000)] += 1000
    assert measure(pixels, QualityLimits()).rms == pytest.approx(0.01, rel=0.02)


def test_only_the_centre_counts_for_the_noise() -> None:
    pixels = noise((200, 400), 1, rms=1.0)
    pixels[75:125, 150:250] *= 0.1
    assert measure(pixels, QualityLimits()).rms == pytest.approx(0.1, rel=0.05)
    assert centre_of(pixels, 0.25).shape == (50, 100)
    assert centre_of(pixels[:3, :5], 0.25).shape == (3, 5)
    assert np.shares_memory(centre_of(pixels, 0.25), pixels[75:125, 150:250])


def test_a_blank_centre_falls_back_to_the_whole_image() -> None:
    pixels = noise((200, 200), 1)
    pixels[50:150, 50:150] = np.nan
    assert measure(pixels, QualityLimits()).rms == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (16, 16)])
def test_tiny_images_are_measured(shape: tuple[int, int]) -> None:
    found = measure(noise(shape), QualityLimits())
    assert found.rms is not None
    assert found.minimum <= found.maximum


def test_hostile_pixels_are_measured() -> None:
    huge = np.full((20, 20), 3e38, dtype=np.float32)
    huge[0, 0] = -3e38
    for pixels in (huge, np.full((9, 9), np.inf, np.float32), np.full((9, 9), np.nan, np.float32)):
        found = measure(pixels, QualityLimits())
        assert found.rms is None or np.isfinite(found.rms)
    tiny = np.full((9, 9), 1e-45, dtype=np.float32)
    assert checks(judged(measure(tiny, QualityLimits()))) == ["flat", "rms"]


def test_flat_and_blank_images_are_refused() -> None:
    flat = judged(measure(np.full((20, 30), 2.5, np.float32), QualityLimits()))
    assert (flat[0].check, flat[0].value) == ("flat", 2.5)
    blank = judged(measure(np.full((20, 30), np.nan, np.float32), QualityLimits()))
    assert checks(blank) == ["flat"]
    assert "NaN" in blank[0].text
    mostly = np.full((20, 30), np.nan, np.float32)
    mostly[3, 4] = 1.0
    assert "flat" in checks(judged(measure(mostly, QualityLimits())))


@pytest.mark.parametrize(
    ("major_px", "minor_px", "expected"),
    [
        (5.0, 4.0, []),
        (1.5, 1.0, ["beam_undersampled"]),
        (1.5, 1.01, []),
        (30.0, 20.0, []),
        (30.1, 20.0, ["beam_oversampled"]),
        (6.0, 3.0, []),
        (6.1, 3.0, ["beam_elliptical"]),
        (60.0, 0.9, ["beam_undersampled", "beam_oversampled", "beam_elliptical"]),
        (0.0, 0.0, ["beam"]),
        (-5.0, -5.0, ["beam"]),
        (np.inf, 4.0, ["beam"]),
        (5.0, np.nan, ["beam"]),
    ],
)
def test_beams_are_judged(major_px: float, minor_px: float, expected: list[str]) -> None:
    found = judged(beam=Beam(major_px * PIXEL_DEG, minor_px * PIXEL_DEG, 0.0))
    assert checks(found) == expected
    assert all(reason.value is None or np.isfinite(reason.value) for reason in found)


def test_the_allowed_ellipticity_is_that_of_the_limits() -> None:
    long = Beam(7.5 * PIXEL_DEG, 3 * PIXEL_DEG, 0.0)
    (reason,) = judged(beam=long)
    assert (reason.check, reason.limit) == ("beam_elliptical", 2.0)
    assert reason.value == pytest.approx(2.5)
    assert judged(beam=long, beam_ratio_max=3.0) == []


@pytest.mark.parametrize(
    ("rms", "limits", "limit"),
    [
        (0.0, {}, 0.0),
        (0.5, {"rms_min": 0.6}, 0.6),
        (2.0, {"rms_max": 1.9}, 1.9),
    ],
)
def test_noise_outside_the_limits_is_refused_with_value_and_limit(
    rms: float, limits: dict[str, Any], limit: float
) -> None:
    (reason,) = judged(Measured(-5.0, 5.0, rms), **limits)
    assert (reason.check, reason.value, reason.limit) == ("rms", rms, limit)
    assert judged(Measured(-5.0, 5.0, 1.0), rms_min=0.6, rms_max=1.9) == []


def test_noise_far_from_its_history_is_refused() -> None:
    earlier = [1.0, 1.1, 0.9, 1.05, 0.95] * 4
    spread = float(np.std(earlier))
    assert judged(Measured(-5, 5, 1 + 2.9 * spread), earlier=earlier) == []
    (high,) = judged(Measured(-5, 5, 1 + 3.1 * spread), earlier=earlier)
    (low,) = judged(Measured(-5, 5, 1 - 3.1 * spread), earlier=earlier)
    assert (high.check, low.check) == ("rms_history", "rms_history")
    assert high.limit == pytest.approx(1 + 3 * spread)
    assert low.limit == pytest.approx(1 - 3 * spread)


def test_a_short_or_constant_history_compares_nothing() -> None:
    assert judged(Measured(-5, 5, 9.0), earlier=[1.0, 1.1] * 4) == []
    assert judged(Measured(-5, 5, 9.0), earlier=[1.0] * 50) == []


def test_an_exposure_of_zero_is_refused_only_where_there_must_be_one() -> None:
    assert judged(exposure_s=0.0) == []
    assert checks(judged(exposure_s=0.0, exposure_required=True)) == ["exposure"]


def test_the_reasons_come_in_the_order_of_the_checks() -> None:
    found = judge(
        QualityLimits(exposure_required=True), Measured(1.0, 1.0, 0.0), Beam(0.04, 0.0005, 0.0), PIXEL_DEG, 0.0
    )
    assert checks(found) == ["flat", "beam_undersampled", "beam_oversampled", "beam_elliptical", "rms", "exposure"]


def test_the_history_is_per_instrument_and_band_and_forgets() -> None:
    history = RmsHistory(3)

    def accepted(noise: float | None, band: str = "low", *, rejected: bool = False) -> Image:
        return Image(id=bytes(16), instrument="x", band=Band(band), noise=noise, quality=Quality(rejected=rejected))

    for value in (1.0, 2.0, 3.0, 4.0):
        history.add(accepted(value))
    history.add(accepted(9.0, "high"))
    history.add(accepted(99.0, rejected=True))
    history.add(accepted(None))
    history.add(Image(id=bytes(16)))
    assert list(history.of("x", "low")) == [2.0, 3.0, 4.0]
    assert list(history.of("x", "high")) == [9.0]
    assert list(history.of("y", "low")) == []
