from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ingest_inputs import MAGIC, Pixels, bare, frame, header, images, noise, parse, reasons
from trapline.image_ingest.events import StreamImage
from trapline.image_ingest.framing import StreamParser

GARBAGE = b"not a telescope " * 700


def golden_frame(values: list[float]) -> bytes:
    """Six pixels of an image 3 wide and 2 high, byte by byte."""
    cards = [
        "SIMPLE  =                    T",
        "BITPIX  =                  -32",
        "NAXIS   =                    2",
        "NAXIS1  =                    3",
        "NAXIS2  =                    2",
        "END",
    ]
    text = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return b"OMOHSJIG" + b"\x40\x0b\x00\x00" + b"\x18\x00\x00\x00" + bytes(496) + text + struct.pack("<6f", *values)


def test_the_golden_frame_is_read_row_by_row() -> None:
    events, parser = parse(golden_frame([1, 2, 3, 4, 5, 6]))
    assert np.array_equal(images(events)[0], [[1, 2, 3], [4, 5, 6]])
    assert parser.counters.images == 1
    assert parser.counters.skipped_bytes == 0


def test_the_golden_frame_is_read_column_by_column() -> None:
    events, _ = parse(golden_frame([1, 4, 2, 5, 3, 6]), pixel_order="column-major")
    assert np.array_equal(images(events)[0], [[1, 2, 3], [4, 5, 6]])


def test_golden_bare_fits_is_big_endian() -> None:
    text = golden_frame([0] * 6)[512 : 512 + 2880]
    data = text + bytes.fromhex("3f800000 40000000 40400000 40800000 40a00000 40c00000") + bytes(2880 - 24)
    events, parser = parse(data)
    assert np.array_equal(images(events)[0], [[1, 2, 3], [4, 5, 6]])
    assert parser.counters.skipped_bytes == 0


@pytest.mark.parametrize("order", ["fits", "column-major"])
@pytest.mark.parametrize("chunk", [1, 7, 511, 512, 513, 2880, 1 << 20])
def test_images_do_not_depend_on_how_the_bytes_come(order: str, chunk: int) -> None:
    sent = [noise((31, 17), 1), noise((5, 40), 2), noise((64, 64), 3)]
    data = frame(sent[0], order=order) + bare(sent[1]) + frame(sent[2], order=order)
    events, parser = parse(data, chunk, pixel_order=order)
    assert all(np.array_equal(a, b) for a, b in zip(images(events), sent, strict=True))
    assert all(one.dtype.str == "<f4" and one.flags.c_contiguous for one in images(events))
    assert (parser.counters.images, parser.counters.skipped_bytes, parser.counters.resyncs) == (3, 0, 0)
    assert [e.position for e in events] == [0, len(frame(sent[0])), len(frame(sent[0])) + len(bare(sent[1]))]


@pytest.mark.parametrize(("make", "start"), [(frame, 512 + 2880), (bare, 2880)])
def test_pixels_are_received_into_the_array_that_is_kept(make: Callable[[Pixels], bytes], start: int) -> None:
    sent = noise((40, 30))
    data = make(sent)
    parser = StreamParser()
    parser.feed(data[:start])
    target = np.frombuffer(parser.wanted(), dtype=np.uint8)
    assert len(target) == sent.nbytes
    target[:] = np.frombuffer(data[start : start + sent.nbytes], dtype=np.uint8)
    (event,) = parser.received(sent.nbytes)
    assert isinstance(event, StreamImage)
    assert np.shares_memory(event.pixels, target)
    assert np.array_equal(event.pixels, sent)


@pytest.mark.parametrize("chunk", [100, 1 << 20])
def test_garbage_between_images_is_skipped_and_counted(chunk: int) -> None:
    sent = [noise((20, 30), k) for k in range(4)]
    data = GARBAGE + frame(sent[0]) + GARBAGE + bare(sent[1]) + GARBAGE + bare(sent[2]) + GARBAGE + frame(sent[3])
    events, parser = parse(data, chunk)
    assert all(np.array_equal(a, b) for a, b in zip(images(events), sent, strict=True))
    assert parser.counters.skipped_bytes == 4 * len(GARBAGE)
    assert parser.counters.resyncs == 4


def test_a_frame_without_its_magic_is_not_taken_for_bare_fits() -> None:
    good = noise((20, 30), 1)
    events, parser = parse(frame(noise((20, 30)), magic=b"WRONGONE") + frame(good))
    assert np.array_equal(images(events), [good])
    assert "without its magic" in reasons(events)[0]
    assert parser.counters.refused == 1


def test_half_an_image_with_the_next_one_behind_it_costs_only_itself() -> None:
    first, good = noise((50, 60), 1), [noise((50, 60), 2), noise((50, 60), 3)]
    for make in (frame, bare):
        whole = make(first)
        for length in (100, 600, 1000, 4000, len(whole) - 3001):
            data = whole[:length] + make(good[0]) + make(good[1])
            events, parser = parse(data, 4096)
            assert np.array_equal(images(events), good), length
            assert parser.counters.truncated + parser.counters.refused == 1
            assert len(reasons(events)) == 1


@pytest.mark.parametrize("missing", range(1, 9))
def test_an_image_a_few_bytes_short_does_not_cost_the_next(missing: int) -> None:
    first, good = noise((50, 60), 1), noise((50, 60), 2)
    events, _ = parse(frame(first)[:-missing] + frame(good) + frame(first))
    assert np.array_equal(images(events)[-2:], [good, first])


@pytest.mark.parametrize("length", [3, 511, 512, 2000, 3392, 3393, 10_000])
def test_the_end_in_mid_image_is_a_truncated_image_and_said(length: int) -> None:
    events, parser = parse(frame(noise((50, 60)))[:length], 333)
    assert images(events) == []
    assert reasons(events) == [f"the stream ended after {length} bytes of an image"]
    assert parser.counters.truncated == 1
    assert parser.counters.skipped_bytes == length


def test_the_end_between_images_is_none() -> None:
    for data in (b"", frame(noise((8, 9))), bare(noise((8, 9))), bare(noise((8, 9)))[:-100]):
        events, parser = parse(data)
        assert reasons(events) == []
        assert (parser.counters.truncated, parser.counters.skipped_bytes) == (0, 0)


def test_silence_counts_only_in_mid_image() -> None:
    parser = StreamParser()
    data = bare(noise((8, 9))) + frame(noise((8, 9)))
    border = len(bare(noise((8, 9))))
    assert not parser.mid_image
    for position, byte in enumerate(data, start=1):
        parser.feed(bytes([byte]))
        inside = 0 < position < 2880 + 8 * 9 * 4 or border < position < len(data)
        assert parser.mid_image == inside, position


@pytest.mark.parametrize(
    ("text_bytes", "pixel_bytes", "says", "broken"),
    [
        (2880, 0xFFFFFFFF, "4294967295 bytes of pixels", 1),
        (2880, 0, "0 bytes of pixels", 1),
        (2880, 399, "shape (10, 10) of its FITS header takes 400", 1),
        # No frame, as it seems; then what looks like bare FITS, with pixels in the wrong order.
        (0xFFFFFFF0, 400, "FITS header of 4294967280 bytes", 2),
        (0, 400, "FITS header of 0 bytes", 2),
    ],
)
def test_absurd_announcements_are_refused_before_memory_is_taken(
    text_bytes: int, pixel_bytes: int, says: str, broken: int
) -> None:
    good = noise((20, 30))
    bad = MAGIC + struct.pack("<II", text_bytes, pixel_bytes) + bytes(496) + frame(noise((10, 10)))[512:]
    data = bad + frame(good)
    tracemalloc.start()
    events, parser = parse(data, 4096)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert says in reasons(events)[0]
    assert np.array_equal(images(events), [good])
    assert parser.counters.refused == len(reasons(events)) == broken
    assert parser.counters.skipped_bytes == len(bad)
    assert peak < 2_000_000


def test_bare_fits_of_an_absurd_size_is_refused_before_memory_is_taken() -> None:
    good = noise((20, 30))
    huge = header((40_000, 40_000)).tostring().encode()
    events, _ = parse(huge + bare(good))
    assert "6400000000 bytes of pixels; allowed are 1 to 536870912" in reasons(events)[0]
    assert np.array_equal(images(events), [good])


@pytest.mark.parametrize(
    "cards",
    [
        {"NAXIS1": None, "NAXIS": 2},
        {"NAXIS1": -5},
        {"NAXIS1": 2.5},
        {"NAXIS1": "many"},
        {"NAXIS": 1},
        {"NAXIS": 0},
        {"NAXIS": 900},
        {"NAXIS1": 10**30},
        {"BITPIX": 7},
    ],
)
def test_headers_that_announce_no_image_are_refused(cards: dict[str, Any]) -> None:
    good = noise((20, 30))
    made = header((20, 30))
    for key, value in cards.items():
        if value is None:
            del made[key]
        else:
            made[key] = value
    events, parser = parse(made.tostring().encode() + bytes(2880) + bare(good))
    assert np.array_equal(images(events), [good])
    assert parser.counters.refused == 1
    assert next(iter(cards)) in reasons(events)[0] or "bytes of pixels" in reasons(events)[0]


def test_a_header_without_end_is_given_up() -> None:
    good = noise((20, 30))
    endless = b"SIMPLE  =                    T".ljust(80) + b"COMMENT".ljust(80) * 8000
    events, _ = parse(endless + frame(good), 10_000)
    assert "without END" in reasons(events)[0]
    assert np.array_equal(images(events), [good])


def test_cubes_give_an_image_per_plane_with_its_own_frequency() -> None:
    cube = noise((2, 1, 10, 12), 5)
    cards = header(cube.shape, CTYPE3="STOKES", CTYPE4="FREQ", CRVAL4=100e6, CDELT4=1e6, CRPIX4=1.0)
    streams = ((frame(cube, cards), "fits"), (frame(cube, cards, "y"), "column-major"), (bare(cube, cards), "fits"))
    for data, order in streams:
        events, _ = parse(data, pixel_order=order)
        assert np.array_equal(images(events), cube[:, 0])
        found = [event for event in events if isinstance(event, StreamImage)]
        assert [event.plane for event in found] == ["plane 0", "plane 1"]
        assert [event.header["CRPIX4"] for event in found] == [1.0, 0.0]


def test_bare_integers_are_scaled_and_blanks_become_nan() -> None:
    stored = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)
    cards = header(stored.shape, BSCALE=0.5, BZERO=100.0, BLANK=-6)
    events, _ = parse(bare(stored, cards))
    (found,) = images(events)
    expected = stored * 0.5 + 100.0
    expected[0, 0] = np.nan
    assert np.array_equal(found, expected.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_bare_fits_of_every_bitpix_is_read(dtype: str) -> None:
    sent = np.arange(77).reshape(7, 11).astype(dtype)
    events, _ = parse(bare(sent) + frame(noise((4, 4))))
    assert np.array_equal(images(events)[0], sent)


def test_in_a_frame_bitpix_does_not_count() -> None:
    sent = noise((9, 7))
    events, _ = parse(frame(sent, header(sent.shape, BITPIX=-64)) * 2)
    assert np.array_equal(images(events), [sent, sent])


def test_nan_and_infinity_pass_unchanged() -> None:
    sent = noise((9, 7))
    sent[0], sent[1], sent[2] = np.nan, np.inf, -np.inf
    for data in (frame(sent), bare(sent), GARBAGE + bare(sent)):
        events, _ = parse(data)
        assert np.array_equal(images(events)[0], sent, equal_nan=True)


def test_pixels_as_large_as_a_marker_are_not_taken_for_one() -> None:
    sent = np.full((30, 30), 9e11, dtype=np.float32)
    events, parser = parse(frame(sent) + bare(sent))
    assert np.array_equal(images(events), [sent, sent])
    assert parser.counters.truncated == 0


def test_a_swarm_of_markers_does_not_take_for_ever() -> None:
    good = noise((20, 30))
    events, parser = parse(MAGIC * 20_000 + frame(good))
    assert np.array_equal(images(events), [good])
    assert parser.counters.skipped_bytes == 8 * 20_000
