"""A seeded fuzzer of streams and headers: 10^4 cases here, 10^6 in the soak. Every failure names its seed and case."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits

from ingest_inputs import MAGIC, frame, header, noise, settings
from trapline.image_ingest.core import describe
from trapline.image_ingest.events import BrokenImage, Event, StreamImage
from trapline.image_ingest.framing import StreamParser
from trapline.schemas.images import Images
from trapline.schemas.message import decode, encode

LIMIT_BYTES = 1 << 20
PIECES = (MAGIC, MAGIC[:5], b"SIMPLE  =", b"SIMPLE  ", bytes(600), b"END".ljust(80), frame(noise((3, 4)))[:700])

Rng = np.random.Generator
Image = npt.NDArray[Any]


def cut_out(data: bytes, rng: Rng) -> bytes:
    start, stop = np.sort(rng.integers(0, len(data) + 1, 2))
    return data[:start] + data[stop:]


def cut_off(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(0, len(data) + 1)]


def put_in(data: bytes, rng: Rng) -> bytes:
    at = rng.integers(0, len(data) + 1)
    return data[:at] + rng.bytes(int(rng.integers(0, 3000))) + data[at:]


def put_piece_in(data: bytes, rng: Rng) -> bytes:
    at = rng.integers(0, len(data) + 1)
    return data[:at] + PIECES[rng.integers(len(PIECES))] + data[at:]


def flip(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    # Half of the time where it hurts: in the announcement and the first cards.
    reach = len(data) if rng.random() < 0.5 else min(len(data), 1200)
    for at in rng.integers(0, max(1, reach), rng.integers(1, 20)):
        if changed:
            changed[at] = rng.integers(256)
    return bytes(changed)


def repeat(data: bytes, rng: Rng) -> bytes:
    start, stop = np.sort(rng.integers(0, len(data) + 1, 2))
    return data[:stop] + data[start:]


def replace(data: bytes, rng: Rng) -> bytes:
    return rng.bytes(len(data))


MUTATIONS: tuple[Callable[[bytes, Rng], bytes], ...] = (cut_out, cut_off, put_in, put_piece_in, flip, repeat, replace)


def an_image(rng: Rng) -> Image:
    shape = rng.integers(2, 60, 2)
    dtype = rng.choice(["f4", "f4", "f4", "f8", "i2", "u1"])
    pixels = rng.normal(100, 20, shape).astype(dtype)
    if dtype == "f4" and rng.random() < 0.3:
        pixels[: shape[0] // 2] = np.nan
    return np.asarray(pixels)


@cache
def cards_of(bitpix: int) -> str:
    return str(header((1000, 1000), BITPIX=bitpix).tostring())


def encoded(pixels: Image, *, framed: bool, order: str) -> bytes:
    kind, size = ("f", 4) if framed else (pixels.dtype.kind, pixels.dtype.itemsize)
    text = cards_of(8 * size * (-1 if kind == "f" else 1))
    for number, length in enumerate(reversed(pixels.shape), start=1):
        text = text.replace(f"NAXIS{number}  =                 1000", f"NAXIS{number}  = {length:20d}")
    if framed:
        data = (pixels if order == "fits" else pixels.T).astype("<f4").tobytes()
        return b"".join([MAGIC, struct.pack("<II", len(text), len(data)), bytes(496), text.encode(), data])
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return b"".join([text.encode(), data, bytes(-len(data) % 2880)])


def received(data: bytes, rng: Rng, order: str) -> tuple[list[Event], StreamParser]:
    parser = StreamParser(pixel_order="fits" if order == "fits" else "column-major", limit_bytes=LIMIT_BYTES)
    events: list[Event] = []
    position = 0
    while position < len(data):
        target = parser.wanted()
        assert 0 < len(target) <= LIMIT_BYTES
        count = min(len(target), len(data) - position, int(rng.integers(1, 5000)))
        target[:count] = data[position : position + count]
        events += parser.received(count)
        position += count
    return events + parser.end(), parser


def equal(event: Event, pixels: Image) -> bool:
    return isinstance(event, StreamImage) and np.array_equal(event.pixels, pixels.astype(np.float32), equal_nan=True)


def attack_streams(seed: int, cases: int) -> None:
    """Send images that were tampered with between ones that were not: these must all be read."""
    rng = np.random.default_rng(seed)
    for case in range(cases):
        order = str(rng.choice(["fits", "column-major"]))
        # An imager speaks one dialect, or changes it from image to image.
        dialect = rng.integers(3)
        sent = [an_image(rng) for _ in range(5)]
        parts = [encoded(one, framed=bool(rng.random() < dialect / 2), order=order) for one in sent]
        for _ in range(rng.integers(1, 4)):
            victim = int(rng.integers(1, 3))
            parts[victim] = MUTATIONS[rng.integers(len(MUTATIONS))](parts[victim], rng)
        events, parser = received(b"".join(parts), rng, order)
        where = f"seed {seed}, case {case}"
        assert equal(events[0], sent[0]), where
        assert any(equal(event, sent[3]) for event in events), where
        assert any(equal(event, sent[4]) for event in events), where
        assert parser.counters.received_bytes == sum(map(len, parts)), where
        assert 0 <= parser.counters.skipped_bytes <= len(parts[1]) + len(parts[2]) + 8, where
        broken = sum(isinstance(event, BrokenImage) for event in events)
        assert broken == parser.counters.truncated + parser.counters.refused, where


@pytest.mark.parametrize("seed", range(10))
def test_whatever_comes_the_next_good_images_are_read(seed: int) -> None:
    attack_streams(seed, 700)


def test_whatever_comes_the_memory_is_bounded() -> None:
    attack_streams(100, 5)
    tracemalloc.start()
    try:
        attack_streams(100, 100)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An image may take its limit, what it is copied from as much again, and the case itself is five small images.
    assert peak < 6 * LIMIT_BYTES
    assert held < LIMIT_BYTES


KEYS = ("BMAJ", "BMIN", "BPA", "RESTFRQ", "RESTBW", "DATE-OBS", "EXPTIME", "CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2",
        "CRPIX1", "CDELT1", "CDELT2", "BUNIT", "TIMESYS", "CTYPE3", "CRVAL3", "CDELT3", "CUNIT3", "TELESCOP", "FILTER",
        "DATE-END", "MJD-OBS", "NCORE", "NREMOTE", "ANTENSET", "INSTRUME", "L1FWHM", "RADESYS", "EQUINOX", "PV2_1",
        "CD1_1", "LONPOLE", "STOKES")  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, "", "x", "nan", "inf", 0, -1, 1e300, -1e300, 1e-300, True, "RA---TAN", "DEC--TAN", "GLON-SIN", "FREQ",
    "STOKES", "VOPT", "WAVE", "0000-00-00", "2020-13-45T99:99:99", "9999-12-31", "31/12/99", "TAI", "UT1", 59000.5,
    2.5e6, "1.5D3", "JY/BEAM", "K", "r", "ICRS", "FK4", 360, 90,
    "LOFAR", "DECam", "ZTF/MOSAIC", "LBA_OUTER", "HBA_DUAL", 1e9,
)  # fmt: skip


def attack_values(seed: int, cases: int) -> None:
    """Describe images whose headers say absurd things."""
    rng = np.random.default_rng(seed)
    known = settings()
    pixels = noise((20, 30))
    for case in range(cases):
        cards = header((20, 30))
        for key in rng.choice(KEYS, rng.integers(1, 6), replace=False):
            value = VALUES[rng.integers(len(VALUES))]
            if value is None:
                cards.remove(key, ignore_missing=True)
            else:
                cards[key] = value
        message = describe(cards, pixels, origin=f"{seed}/{case}", settings=known)
        again = decode([bytes(part) for part in encode(message)]).header
        assert isinstance(again, Images)
        assert again.image == message.header.image


@pytest.mark.parametrize("seed", range(5))
def test_whatever_a_header_says_a_message_comes_of_it(seed: int) -> None:
    attack_values(seed, 400)


def attack_cards(seed: int, cases: int) -> None:
    """Describe images whose headers hold absurd bytes."""
    rng = np.random.default_rng(seed)
    known = settings()
    pixels = noise((20, 30))
    text = bytearray(header((20, 30)).tostring().encode())
    for case in range(cases):
        mutated = bytearray(text)
        for at in rng.integers(0, 2000, rng.integers(1, 30)):
            mutated[at] = rng.integers(32, 127)
        with warnings.catch_warnings(action="ignore"):
            cards = fits.Header.fromstring(bytes(mutated).decode("ascii"))
        message = describe(cards, pixels, origin=f"{seed}/{case}", settings=known)
        decode([bytes(part) for part in encode(message)])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_bytes_the_cards_hold_a_message_comes_of_it(seed: int) -> None:
    attack_cards(seed, 250)


# The soak: 10^6 cases that `make test` does not have, in pieces that end before a test's time is over.


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1008))
def test_soak_streams(seed: int) -> None:
    attack_streams(seed, 100_000)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1004))
def test_soak_headers(seed: int) -> None:
    attack_values(seed, 40_000)
    attack_cards(seed, 10_000)
    assert resident_bytes() < 1 << 30


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123  of the kernel
        return int(file.read().split()[1]) * 4096
