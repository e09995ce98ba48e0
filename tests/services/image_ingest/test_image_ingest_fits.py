from __future__ import annotations

import contextlib
import gzip
import os
import tracemalloc
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from astropy.io import fits

from ingest_inputs import bare, header, noise, settings
from trapline.common.ids import unreadable_id
from trapline.image_ingest.files import NoInputError, find_files, in_order, start_us
from trapline.image_ingest.fitsfile import FitsImage, UnreadableError, read_fits, read_headers
from trapline.image_ingest.reading import describe_file


def primary(pixels: Any, **cards: Any) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(pixels)
    for key, value in header(pixels.shape, **cards).items():
        if key not in {"SIMPLE", "BITPIX", "NAXIS"} and not key.startswith("NAXIS"):
            hdu.header[key] = value
    return hdu


def written(path: Path, *hdus: Any) -> Path:
    fits.HDUList(list(hdus)).writeto(path)
    return path


def pixels_of(path: Path) -> list[Any]:
    return [image.pixels for image in read_fits(path)]


@pytest.mark.parametrize("name", ["a.fits", "a.fit", "a.fts", "a.fits.gz", "a.FITS"])
def test_an_image_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    sent = noise((31, 47))
    (found,) = read_fits(written(tmp_path / name, primary(sent)))
    assert found.pixels is not None
    assert np.array_equal(found.pixels, sent)
    assert found.pixels.dtype.str == "<f4"
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable
    assert found.origin == str(tmp_path / name)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_compressed_images_are_read(tmp_path: Path, kind: str) -> None:
    sent = np.arange(40 * 60, dtype=np.int32).reshape(40, 60)
    made = header(sent.shape)
    del made["SIMPLE"]
    compressed = fits.CompImageHDU(sent, made, compression_type=kind)
    (found,) = read_fits(written(tmp_path / "a.fits.fz", fits.PrimaryHDU(), compressed))
    assert found.pixels is not None
    assert np.array_equal(found.pixels, sent)
    assert found.header["BMAJ"] == 0.02
    assert found.origin.endswith("a.fits.fz[1]")


def test_degenerate_axes_are_dropped(tmp_path: Path) -> None:
    sent = noise((1, 1, 31, 47))
    (found,) = pixels_of(written(tmp_path / "a.fits", primary(sent)))
    assert np.array_equal(found, sent[0, 0])


def test_a_cube_gives_one_image_per_plane_with_its_frequency_and_stokes(tmp_path: Path) -> None:
    sent = noise((2, 3, 10, 12))
    cards: dict[str, Any] = {
        "CTYPE3": "FREQ", "CRVAL3": 100e6, "CDELT3": 1e6, "CRPIX3": 2.0,
        "CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 3.0, "CRPIX4": 1.0, "RESTFRQ": None, "RESTBW": None,
    }  # fmt: skip
    path = written(tmp_path / "cube.fits", primary(sent, **cards))
    found = list(read_fits(path))
    assert [image.origin.removeprefix(f"{path} ") for image in found] == [
        f"plane {stokes},{channel}" for stokes in range(2) for channel in range(3)
    ]
    for image, plane in zip(found, sent.reshape(6, 10, 12), strict=True):
        assert image.pixels is not None
        assert np.array_equal(image.pixels, plane)
    images = [message.header.image for message in describe_file(path, settings())]
    bands = [image.band for image in images if image and image.band]
    assert [band.freq_hz for band in bands] == [99e6, 100e6, 101e6] * 2
    assert [image.stokes for image in images if image] == ["I"] * 3 + ["V"] * 3
    assert len({image.id for image in images if image}) == 6


def test_of_fitted_spectral_terms_only_the_first_is_an_image(tmp_path: Path) -> None:
    sent = noise((4, 10, 12))
    (found,) = pixels_of(written(tmp_path / "a.fits", primary(sent, CTYPE3="SPECLNMF", CRVAL3=1e9, CDELT3=8e8)))
    assert np.array_equal(found, sent[0])


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f8"])
def test_every_bitpix_is_read(tmp_path: Path, dtype: str) -> None:
    sent = np.arange(100).reshape(5, 20).astype(dtype)
    (found,) = pixels_of(written(tmp_path / "a.fits", primary(sent)))
    assert np.array_equal(found, sent)


def test_scaled_integers_and_blanks(tmp_path: Path) -> None:
    stored = np.arange(-50, 50, dtype=np.int16).reshape(5, 20)
    hdu = primary(stored)
    hdu.header["BLANK"] = -50
    path = written(tmp_path / "a.fits", hdu)
    # astropy would scale on writing: the cards are put where they belong by hand.
    raw = bytearray(path.read_bytes())
    at = raw.index(b"CRPIX1")
    raw[at : at + 80] = b"BSCALE  =                 0.25".ljust(80)
    at = raw.index(b"CRPIX2")
    raw[at : at + 80] = b"BZERO   =                100.0".ljust(80)
    path.write_bytes(bytes(raw))
    (found,) = pixels_of(path)
    expected = stored * 0.25 + 100
    expected[0, 0] = np.nan
    assert np.array_equal(found, expected.astype(np.float32), equal_nan=True)


def test_unsigned_integers(tmp_path: Path) -> None:
    sent = np.array([[0, 1, 40_000], [65_535, 2, 3]], dtype=np.uint16)
    (found,) = pixels_of(written(tmp_path / "a.fits", primary(sent)))
    assert np.array_equal(found, sent)


def test_images_in_extensions_inherit_the_primary_header(tmp_path: Path) -> None:
    first, second = noise((8, 9), 1), noise((8, 9), 2)
    top = fits.PrimaryHDU()
    top.header["TELESCOP"], top.header["DATE-OBS"], top.header["FILTER"] = "LOFAR", "2020-01-02T03:04:05", "r"
    hdus = [
        top,
        fits.ImageHDU(first, fits.Header({"FILTER": "g"}), name="SCI"),
        fits.ImageHDU(np.ones((8, 9), np.uint8), name="BPM"),
        fits.ImageHDU(noise((8, 9)), name="ERR"),
        fits.BinTableHDU.from_columns([fits.Column("x", "D", array=np.arange(3.0))], name="CAT"),
        fits.ImageHDU(second, fits.Header({"INHERIT": False}), name="SCI2"),
    ]
    found = list(read_fits(written(tmp_path / "a.fits", *hdus)))
    assert [image.origin.rpartition("[")[2] for image in found] == ["1]", "5]"]
    assert found[0].pixels is not None
    assert np.array_equal(found[0].pixels, first)
    assert (found[0].header["FILTER"], found[0].header["TELESCOP"]) == ("g", "LOFAR")
    assert "TELESCOP" not in found[1].header


def test_a_header_without_an_image_is_given_without_pixels(tmp_path: Path) -> None:
    for data in (None, np.arange(5.0)):
        hdu = fits.PrimaryHDU(data)
        hdu.header["TELESCOP"] = "LOFAR"
        path = tmp_path / f"{data is None}.fits"
        (found,) = read_fits(written(path, hdu))
        assert found.pixels is None
        assert found.header["TELESCOP"] == "LOFAR"


def an_image(directory: Path, name: str = "whole.fits") -> Path:
    return written(directory / name, primary(noise((60, 70))))


def test_a_file_cut_anywhere_is_read_whole_or_refused_in_one_line(tmp_path: Path) -> None:
    sent = noise((60, 70))
    whole = written(tmp_path / "whole.fits", primary(sent)).read_bytes()
    packed = gzip.compress(whole, mtime=0)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(sent, quantize_level=0, compression_type="GZIP_1")]).writeto(
        tmp_path / "c.fits.fz"
    )
    tiled = (tmp_path / "c.fits.fz").read_bytes()
    for name, data in (("cut.fits", whole), ("cut.fits.gz", packed), ("cut.fits.fz", tiled)):
        path = tmp_path / name
        for length in [0, 1, 79, 80, 2879, 2880, 2881, *range(1000, len(data), 997), len(data) - 1]:
            path.write_bytes(data[:length])
            found = readable(path)
            # What is missing may be padding only; then all pixels are there.
            assert all(one is None or np.array_equal(one, sent) for one in found), (name, length)


def readable(path: Path) -> list[Any]:
    """Return the pixels of a file; nothing when it is refused, in one line that names it."""
    try:
        return pixels_of(path)
    except UnreadableError as error:
        text = str(error)
    assert str(path) in text
    assert "\n" not in text
    return []


def test_half_a_file_says_how_much_is_there(tmp_path: Path) -> None:
    path = an_image(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        UnreadableError, match=rf"whole\.fits: cut short: {len(data) // 2} of {len(data)} bytes are there"
    ):
        list(read_fits(path))


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>not found</html>" * 300, os.urandom(10_000), b"SIMPLE  =" + b" " * 10_000, b"\x1f\x8b" + bytes(500)],
)
def test_what_is_no_fits_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.fits"
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"bad\.fits: .*expected a complete FITS file"):
        list(read_fits(path))


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.fits", tmp_path):
        with pytest.raises(UnreadableError, match="no such file"):
            list(read_fits(path))


def test_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "huge.fits"
    path.write_bytes(header((200_000, 200_000)).tostring().encode() + bytes(2880))
    with pytest.raises(UnreadableError, match=r"200000 x 200000 pixels takes 160000000000 bytes; allowed are"):
        list(read_fits(path))
    with pytest.raises(UnreadableError, match=r"allowed are 100 "):
        list(read_fits(an_image(tmp_path), limit_bytes=100))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_without_end_is_given_up_before_memory_is_taken(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "endless.fits"
    path.write_bytes(pack(b"SIMPLE  =                    T".ljust(80) + b"COMMENT nothing".ljust(80) * (40 << 20 >> 6)))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableError, match="without END in 1677"):
            list(read_fits(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 << 20


def test_a_long_header_is_read(tmp_path: Path) -> None:
    cards = header((8, 9))
    for number in range(20_000):
        cards.add_history(f"line {number}")
    path = tmp_path / "long.fits"
    path.write_bytes(bare(noise((8, 9)), cards))
    (image,) = read_fits(path)
    assert image.pixels is not None


def test_headers_are_read_without_pixels(tmp_path: Path) -> None:
    path = an_image(tmp_path)
    path.write_bytes(path.read_bytes()[:2900])
    assert [found["BMAJ"] for found in read_headers(path)] == [0.02]


def test_closing_early_closes_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "cube.fits", primary(noise((5, 8, 9))))
    with contextlib.closing(cast("Generator[FitsImage]", read_fits(path))) as images:
        assert next(images).header["BMAJ"] == 0.02
    opened = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert path not in opened


def test_an_unreadable_file_is_a_message_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bad.fits"
    for data, hashed in ((b"no fits", b"no fits"), (b"", str(path).encode())):
        path.write_bytes(data)
        (message,) = describe_file(path, settings())
        image = message.header.image
        assert image is not None
        assert image.id == unreadable_id("default", hashed)
        assert image.origin == str(path)
        assert image.quality.reasons[0].check == "unreadable"


def test_files_are_found_by_name_directory_and_pattern(tmp_path: Path) -> None:
    names = ["b.fits", "a.fit", "c.fts", "d.fits.gz", "e.FITS.FZ", "notes.txt", ".hidden.fits", "f.fits.tmp"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "g.fits").touch()
    fits_files = [tmp_path / name for name in ("a.fit", "b.fits", "c.fts", "d.fits.gz", "e.FITS.FZ")]
    assert find_files([tmp_path]) == fits_files
    assert find_files([str(tmp_path / "*.f*ts")]) == [tmp_path / "b.fits", tmp_path / "c.fts"]
    assert find_files([tmp_path / "**" / "*.fits"]) == [tmp_path / "b.fits", tmp_path / "sub" / "g.fits"]
    assert find_files([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    assert find_files([tmp_path, tmp_path / "b.fits", tmp_path / "sub" / ".." / "b.fits"]) == fits_files


def test_nothing_found_is_a_clear_error(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path, "no FITS files in this directory"),
        (tmp_path / "x.fits", "no such file or directory"),
        (tmp_path / "*.fits", "this pattern matches no FITS file"),
    ):
        with pytest.raises(NoInputError, match=says) as caught:
            find_files([path])
        assert str(path) in str(caught.value)


def test_finite_input_is_in_order_of_start_then_path(tmp_path: Path) -> None:
    starts = {"d": "2020-01-01T00:00:02", "c": "2020-01-01T00:00:01", "b": "2020-01-01T00:00:02", "a": "2021-01-01"}
    for name, start in starts.items():
        written(tmp_path / f"{name}.fits", primary(noise((4, 5)), DATE_OBS=start))
    (tmp_path / "e.fits").write_bytes(b"no fits")
    written(tmp_path / "f.fits", primary(noise((4, 5)), DATE_OBS="2020-01-01T00:00:36.5", TIMESYS="TAI"))
    known = settings()
    ordered = in_order(find_files([tmp_path]), known)
    assert [path.name[0] for path in ordered] == ["e", "f", "c", "b", "d", "a"]
    assert start_us(tmp_path / "c.fits", known) == int(np.datetime64("2020-01-01T00:00:01", "us").astype(np.int64))
