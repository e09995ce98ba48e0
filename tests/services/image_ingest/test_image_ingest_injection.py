"""Fake sources: where they are said to be, as bright as they are said to be, and the same every time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sep

from ingest_inputs import header, noise, settings
from trapline.common.wcs import parse_wcs
from trapline.image_ingest.core import describe
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode

DENSE: dict[str, Any] = {"per_square_deg": 20, "every_s": 60, "duration_s": 60, "snr_min": 50, "snr_max": 100}
SHAPE = (300, 420)


def injected(
    *, start: str = "2020-06-01T12:00:00", seed: int = 1, cards: dict[str, Any] | None = None, **config: Any
) -> Any:
    """Return the message of an image of white noise, 1 Jy, with fakes in it."""
    known = settings(injection=DENSE | {"seed": seed} | config, margin_px=10)
    centre = {"CRPIX1": 210.0, "CRPIX2": 150.0, "CDELT1": -0.005, "CDELT2": 0.005, "DATE_OBS": start}
    pixels = noise(SHAPE, seed=5)
    return describe(header(SHAPE, **centre | (cards or {})), pixels, origin="", settings=known)


def test_the_truth_is_in_the_message_and_the_sources_in_the_pixels() -> None:
    message: Message[Images] = injected(cards={"BMAJ": 0.03, "BMIN": 0.02, "BPA": 40.0})
    again = decode([bytes(part) for part in encode(message)]).header
    assert isinstance(again, Images)
    assert again.injected == message.header.injected
    assert again.image is not None
    assert again.image.role == "injection"
    added = message.arrays["pixels"] - noise(SHAPE, seed=5)
    assert len(again.injected) > 20
    wcs = parse_wcs(again.image.wcs or "")
    total = 0.0
    for one in again.injected:
        x, y = wcs.to_pixel(one.ra_deg, one.dec_deg)
        assert (float(x), float(y)) == pytest.approx((one.x, one.y), abs=1e-6)
        assert one.flux == pytest.approx(one.snr * (again.image.noise or 0))
        assert 50 <= one.snr <= 100
        total += one.flux
    # Each adds its flux times the area of the beam, but for what lies beyond the edge of the stamp.
    beam_px = math.pi * 0.03 * 0.02 / (4 * math.log(2)) / 0.005**2
    assert added.sum() == pytest.approx(total * beam_px, rel=0.03)


def test_the_peak_and_the_orientation_are_those_of_the_beam() -> None:
    beam = {"BMAJ": 0.04, "BMIN": 0.022, "BPA": 30.0}
    message = injected(cards=beam, per_square_deg=5)
    added = message.arrays["pixels"] - noise(SHAPE, seed=5)
    alone = [
        one
        for one in message.header.injected
        if all(math.hypot(one.x - b.x, one.y - b.y) > 40 or b is one for b in message.header.injected)
        and 40 < one.x < SHAPE[1] - 40 and 40 < one.y < SHAPE[0] - 40
    ]  # fmt: skip
    assert alone
    for one in alone:
        left, bottom = round(one.x) - 25, round(one.y) - 25
        stamp = np.ascontiguousarray(added[bottom : bottom + 51, left : left + 51])
        (source,) = sep.extract(stamp, 1e-3 * one.flux, filter_kernel=None)
        assert (source["x"] + left, source["y"] + bottom) == pytest.approx((one.x, one.y), abs=0.02)
        # North through east is from +y towards -x: right ascension grows to the left.
        assert math.degrees(source["theta"]) % 180 == pytest.approx(120, abs=1)
        assert source["a"] / source["b"] == pytest.approx(0.04 / 0.022, rel=0.05)


def test_the_seed_decides_and_the_order_of_images_does_not() -> None:
    first, other, again = injected(), injected(start="2020-06-01T12:00:30"), injected()
    assert first.header.image.id == again.header.image.id
    assert first.header.injected == again.header.injected
    assert other.header.injected
    assert injected(seed=2).header.injected != first.header.injected


def places(message: Message[Images]) -> set[tuple[float, float]]:
    return {(one.ra_deg, one.dec_deg) for one in message.header.injected}


def test_they_are_transients_that_all_bands_see() -> None:
    seconds = [
        places(injected(start=f"2020-06-01T12:{s // 60:02d}:{s % 60:02d}", duration_s=20)) for s in range(0, 60, 5)
    ]
    everything = set.union(*seconds)
    assert seconds[0] & seconds[1]
    assert not seconds[0] & seconds[6]
    assert len(everything) > len(seconds[0])
    assert places(injected(cards={"RESTFRQ": 70e6})) == places(injected())
    # Each shines in neighbouring images only.
    for place in everything:
        on = [number for number, found in enumerate(seconds) if place in found]
        assert on == list(range(on[0], on[-1] + 1))
        assert len(on) <= 5


def test_blank_and_unmeasured_places_get_none() -> None:
    pixels = noise(SHAPE)
    pixels[:, :200] = np.nan
    known = settings(injection=DENSE, margin_px=30)
    message = describe(header(SHAPE, CDELT1=-0.005, CDELT2=0.005), pixels, origin="", settings=known)
    assert message.header.injected
    assert all(
        one.x > 199 and one.x <= SHAPE[1] - 31 and 30 <= one.y <= SHAPE[0] - 31 for one in message.header.injected
    )
    assert np.isnan(message.arrays["pixels"][:, :190]).all()


@pytest.mark.parametrize("cards", [{"BMAJ": None}, {"CTYPE1": None}, {"DATE_OBS": None}, {"BMIN": 0.0}])
def test_an_image_that_cannot_have_them_goes_on_without(cards: dict[str, Any]) -> None:
    message = injected(cards=cards)
    assert message.header.injected == []
    assert message.header.image is not None
    assert message.header.image.quality.rejected


def test_without_injection_nothing_is_added() -> None:
    pixels = noise(SHAPE)
    message = describe(header(SHAPE), pixels, origin="", settings=settings())
    assert message.header.injected == []
    assert message.header.image is not None
    assert message.header.image.role == "observation"
    assert np.shares_memory(message.arrays["pixels"], pixels)


def test_contradictory_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="duration_s"):
        settings(injection={"duration_s": 700})
    with pytest.raises(ValueError, match="snr_max"):
        settings(injection={"snr_min": 200})
