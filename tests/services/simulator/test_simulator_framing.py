"""Bytes on the wire, read by a parser that knows the format and nothing of the simulator."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from trapline.simulator.config import SimulatorConfig
from trapline.simulator.core import render
from trapline.simulator.framing import encode, size_of

ReadStream = Callable[[bytes], list[Any]]


def primary(hdus: fits.HDUList) -> list[Any]:
    return list(hdus)


def test_framed_images_x_fastest(small: SimulatorConfig, read_stream: ReadStream) -> None:
    rendered = [render(small, band, 2) for band in (0, 1)]
    parts = [encode(small, image.header, image.pixels) for image in rendered]
    stream = b"".join(part for image in parts for part in image)
    assert len(stream) == sum(map(size_of, parts))
    received = read_stream(stream)
    assert len(received) == 2
    for image, (cards, raw) in zip(rendered, received, strict=True):
        assert (cards["NAXIS1"], cards["NAXIS2"]) == ("160", "120")
        assert np.array_equal(raw.reshape(120, 160), image.pixels, equal_nan=True)
        for keyword in ("CRVAL1", "RESTFRQ", "DATE-OBS", "BMAJ", "CTYPE1"):
            assert cards[keyword] == str(image.header[keyword])


def test_framed_images_y_fastest(small: SimulatorConfig, read_stream: ReadStream) -> None:
    header, pixels, _ = render(small, 0, 0)
    (image,) = read_stream(b"".join(encode(small.model_copy(update={"pixel_order": "column-major"}), header, pixels)))
    assert np.array_equal(image.raw[:120], pixels[:, 0])
    assert image.raw[3 * 120 + 7] == pixels[7, 3]
    assert np.array_equal(image.raw.reshape(160, 120).T, pixels)


def test_first_bytes_are_those_of_the_format(small: SimulatorConfig) -> None:
    header, pixels, _ = render(small, 0, 0)
    stream = b"".join(encode(small, header, pixels))
    assert stream[:8] == b"OMOHSJIG"
    assert struct.unpack("<II", stream[8:16]) == (2880, 160 * 120 * 4)
    assert stream[512:542] == b"SIMPLE  =                    T"
    assert struct.unpack_from("<f", stream, 512 + 2880 + 4 * (5 * 160 + 9))[0] == pixels[5, 9]


@pytest.mark.parametrize("horizon_deg", [4.0, None])
def test_bare_fits_is_a_fits_file(small: SimulatorConfig, horizon_deg: float | None) -> None:
    config = small.model_copy(update={"framing": "fits", "horizon_deg": horizon_deg})
    header, pixels, _ = render(config, 0, 0)
    stream = b"".join(encode(config, header, pixels))
    assert len(stream) % 2880 == 0
    with fits.open(io.BytesIO(stream)) as hdus:
        hdus.verify("exception")
        (image,) = primary(hdus)
        assert np.array_equal(image.data, pixels, equal_nan=True)
        assert image.header["DATE-OBS"] == header["DATE-OBS"]
    assert np.isnan(pixels).any() == (horizon_deg is not None)
