from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest_inputs import header, noise, settings
from trapline.common.ids import id_time_us, image_id, unreadable_id
from trapline.image_ingest.core import describe, describe_unreadable, unreadable
from trapline.image_ingest.instruments import InstrumentError
from trapline.image_ingest.layout import Pixels
from trapline.image_ingest.quality import RmsHistory
from trapline.image_ingest.reading import describe_file
from trapline.schemas.image import Image
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode

REAL = Path(__file__).parents[2] / "data" / "real"
START_US = int(np.datetime64("2020-06-01T12:00:00", "us").astype(np.int64))


def described(pixels: Pixels | None = None, config: dict[str, Any] | None = None, **cards: Any) -> Message[Images]:
    pixels = noise((32, 40)) if pixels is None else pixels
    made = header((32, 40), **cards)
    return describe(made, pixels, origin="here", settings=settings(**config or {}))


def image_of(message: Message[Images]) -> Image:
    assert message.header.image is not None
    return message.header.image


def test_a_complete_message() -> None:
    pixels = noise((32, 40))
    message = described(pixels)
    image = image_of(message)
    assert image.quality.rejected is False
    assert image.quality.reasons == []
    assert (image.instrument, image.stokes, image.unit, image.shape) == ("generic-radio", "I", "Jy", (32, 40))
    assert image.band is not None
    assert (image.band.name, image.band.freq_hz, image.band.bandwidth_hz) == ("59.900-60.100 MHz", 60e6, 200e3)
    assert (image.t_start_us, image.exposure_s, image.margin_px, image.origin) == (START_US, 2.0, 10, "here")
    assert image.noise == pytest.approx(1.0, abs=0.1)
    assert image.wcs is not None
    assert len(image.wcs) % 80 == 0
    assert message.header.schema == "trapline.images/1.0"
    assert np.shares_memory(message.arrays["pixels"], pixels)
    again = decode([bytes(part) for part in encode(message)]).header
    assert isinstance(again, Images)
    assert again.image == image


def test_the_id_is_of_the_facts_and_nothing_else() -> None:
    pixels = noise((32, 40))
    first = image_of(described(pixels))
    expected = image_id(
        pixels,
        dataset="default",
        instrument="generic-radio",
        band="59.900-60.100 MHz",
        stokes="I",
        t_start_us=START_US,
        exposure_s=2.0,
    )
    assert first.id == expected
    assert image_of(described(pixels, OBJECT="other", BMAJ=0.021)).id == expected
    changed = pixels.copy()
    changed[3, 4] = np.nextafter(changed[3, 4], np.float32(9))
    others = [
        described(changed),
        described(pixels, EXPTIME=3.0),
        described(pixels, DATE_OBS="2020-06-01T12:00:00.000001"),
        described(pixels, RESTFRQ=70e6),
        described(pixels, CTYPE3="STOKES", CRVAL3=4.0),
        described(pixels, TELESCOP="LOFAR"),
        described(pixels, {"dataset": "second"}),
    ]
    ids = {image_of(other).id for other in others} | {expected}
    assert len(ids) == len(others) + 1
    records = {other.header.id for other in others}
    assert len(records) == len(others)


def test_the_same_input_gives_the_same_message() -> None:
    first, second = described(), described()
    assert [bytes(part) for part in encode(first)] == [bytes(part) for part in encode(second)]


def test_images_are_described_in_threads_without_leaving_warnings_off() -> None:
    filters = list(warnings.filters)
    pixels, known = noise((32, 40)), settings()

    def work(number: int) -> bytes:
        # EPOCH makes wcslib remark on the header; every CRVAL1 makes it read the header anew.
        made = header((32, 40), EPOCH=2000.0, CRVAL1=float(number))
        return image_of(describe(made, pixels, origin="", settings=known)).id

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(work, range(40)))
    assert len(set(ids)) == 1
    assert list(warnings.filters) == filters


def test_millijansky_become_jansky_and_the_input_stays() -> None:
    pixels = noise((32, 40), rms=1000.0)
    before = pixels.copy()
    message = described(pixels, BUNIT="mJy/beam")
    assert np.array_equal(pixels, before)
    assert message.arrays["pixels"] == pytest.approx(before / 1000, rel=1e-6)
    assert image_of(message).unit == "Jy"
    assert image_of(message).noise == pytest.approx(1.0, abs=0.1)


def test_infinities_become_nan_and_are_flagged() -> None:
    pixels = noise((32, 40))
    pixels[0, 0], pixels[1, 1] = np.inf, -np.inf
    message = described(pixels)
    assert np.isnan(message.arrays["pixels"][[0, 1], [0, 1]]).all()
    assert np.isinf(pixels[0, 0])
    assert "infinite_pixels" in image_of(message).quality.flags
    assert image_of(message).quality.rejected is False


def test_bands_radius_and_margin_are_configured() -> None:
    config = {
        "bands": [{"name": "low", "freq_hz": "60 MHz", "bandwidth_hz": "1 MHz"}],
        "extraction_radius_deg": "3 arcmin",
        "margin_px": 4,
    }
    image = image_of(described(None, config))
    assert image.band is not None
    assert (image.band.name, image.radius_deg, image.margin_px) == ("low", 0.05, 4)


def test_without_a_configured_radius_it_is_the_circumscribed_circle() -> None:
    radius = image_of(described()).radius_deg
    assert radius == pytest.approx(0.003 * np.hypot(20, 16), rel=1e-4)


def test_a_named_instrument_wins_over_the_header() -> None:
    message = describe(header((32, 40)), noise((32, 40)), origin="", settings=settings(), instrument="ami-la")
    assert image_of(message).instrument == "ami-la"
    with pytest.raises(InstrumentError, match="no instrument 'nil'"):
        describe(header((32, 40)), noise((32, 40)), origin="", settings=settings(), instrument="nil")


def test_a_rejected_image_is_described_as_far_as_it_goes_and_keeps_its_pixels() -> None:
    message = described(None, None, RESTFRQ=None, RESTBW=None, BMAJ=None, CRVAL1=None, DATE_OBS=None)
    image = image_of(message)
    assert image.quality.rejected is True
    text = " | ".join(reason.text for reason in image.quality.reasons)
    for key in ("RESTFRQ", "BMAJ", "CRVAL1", "DATE-OBS"):
        assert key in text
    assert message.arrays["pixels"].shape == (32, 40)
    assert (image.band, image.beam, image.wcs, image.t_start_us) == (None, None, None, None)
    assert (image.unit, image.exposure_s) == ("Jy", 2.0)
    assert id_time_us(image.id) == 0
    decode([bytes(part) for part in encode(message)])


def test_every_failed_check_has_its_reason_in_order() -> None:
    message = described(np.full((32, 40), 7.0, np.float32), None, BMAJ=1.0, BMIN=0.1, CTYPE3="STOKES", CRVAL3=99.0)
    assert [reason.check for reason in image_of(message).quality.reasons] == [
        "header", "flat", "beam_oversampled", "beam_elliptical", "rms",
    ]  # fmt: skip


def test_configured_limits_are_applied() -> None:
    assert image_of(described()).quality.rejected is False
    (reason,) = image_of(described(None, {"quality": {"rms_max": 0.5}})).quality.reasons
    assert (reason.check, reason.limit) == ("rms", 0.5)
    (reason,) = image_of(described(None, {"quality": {"rms_min": 2.0}})).quality.reasons
    assert (reason.check, reason.limit) == ("rms", 2.0)


def test_an_infinite_beam_is_refused_and_does_not_travel() -> None:
    image = image_of(described(None, None, BMAJ="inf", BMIN="inf", BPA=0.0))
    assert [reason.check for reason in image.quality.reasons] == ["beam"]
    assert image.beam is None


def test_the_noise_is_compared_with_earlier_images() -> None:
    history = RmsHistory()
    known = settings()
    for seed in range(12):
        message = describe(header((32, 40)), noise((32, 40), seed), origin="", settings=known, history=history)
        assert image_of(message).quality.rejected is False
        history.add(image_of(message))
    loud = describe(header((32, 40)), noise((32, 40), 1, rms=2.0), origin="", settings=known, history=history)
    assert [reason.check for reason in image_of(loud).quality.reasons] == ["rms_history"]
    other = describe(
        header((32, 40), RESTFRQ=70e6), noise((32, 40), 1, rms=2.0), origin="", settings=known, history=history
    )
    assert image_of(other).quality.rejected is False


def test_an_optical_image_takes_its_seeing_as_beam_and_needs_an_exposure() -> None:
    cards: dict[str, Any] = {"BMAJ": None, "BMIN": None, "BPA": None, "RESTFRQ": None, "RESTBW": None, "BUNIT": "ADU"}
    image = image_of(described(None, None, FILTER="r", SEEING=21.6, **cards))
    assert image.quality.rejected is False
    assert image.band is not None
    assert (image.band.name, image.band.filter, image.band.freq_hz, image.unit) == ("r", "r", None, "count")
    assert image.beam is not None
    assert image.beam.major_deg == pytest.approx(0.006)
    bare = image_of(described(None, None, FILTER="r", EXPTIME=None, **cards))
    assert bare.beam is None
    assert [reason.check for reason in bare.quality.reasons] == ["exposure"]


def test_unreadable_input_has_only_its_origin_reasons_and_an_id_of_its_bytes() -> None:
    message = describe_unreadable(b"bytes", [unreadable("first line\nsecond line")], "tcp://a:1@77", settings())
    image = image_of(message)
    assert image == Image(id=unreadable_id("default", b"bytes"), origin="tcp://a:1@77", quality=image.quality)
    assert image.quality.rejected is True
    assert [(reason.check, reason.text) for reason in image.quality.reasons] == [("unreadable", "first line")]
    assert message.arrays == {}
    assert id_time_us(image.id) == 0
    decode([bytes(part) for part in encode(message)])


def test_the_real_images() -> None:
    known = settings()
    found = {path.name: [image_of(one) for one in describe_file(path, known)] for path in sorted(REAL.glob("*.fits"))}
    assert {name: [image.quality.rejected for image in images] for name, images in found.items()} == {
        "ami-GRB120422A-120429.fits": [False],
        "ami-SWIFT_554620-130504.fits": [False],
        "lofar-GRB201006A-2min.fits": [False],
        "lofar-header-only.fits": [True],
        "missing-metadata.fits": [True],
    }
    texts = {name: " | ".join(r.text for r in images[0].quality.reasons) for name, images in found.items()}
    for key in ("NAXIS", "BMAJ", "BMIN", "BPA", "EXPTIME"):
        assert key in texts["lofar-header-only.fits"]
    for key in ("RESTFRQ", "CRVAL3", "TELESCOP", "EXPTIME"):
        assert key in texts["missing-metadata.fits"]
    lofar = found["lofar-GRB201006A-2min.fits"][0]
    assert lofar.instrument == "lofar"
    # The reference pixel lies outside of this cut-out: (61.88, 65.15).
    assert (lofar.centre_ra_deg, lofar.centre_dec_deg) == pytest.approx((61.42, 63.33), abs=0.01)
    assert found["ami-GRB120422A-120429.fits"][0].instrument == "ami-la"
    assert found["lofar-header-only.fits"][0].instrument is None
