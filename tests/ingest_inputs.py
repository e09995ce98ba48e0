"""Headers and byte streams as telescopes send them, made without the code under test."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from trapline.image_ingest.config import IngestConfig
from trapline.image_ingest.events import BrokenImage, Event, StreamImage
from trapline.image_ingest.framing import StreamParser
from trapline.image_ingest.instruments import Settings

Pixels = npt.NDArray[np.float32]

MAGIC = bytes.fromhex("4f4d4f48534a4947")

RADIO: dict[str, Any] = {
    "TELESCOP": "NOWHERE",
    "BUNIT": "JY/BEAM",
    "BMAJ": 0.02,
    "BMIN": 0.015,
    "BPA": 30.0,
    "RESTFRQ": 60e6,
    "RESTBW": 200e3,
    "DATE-OBS": "2020-06-01T12:00:00.0",
    "EXPTIME": 2.0,
    "CTYPE1": "RA---SIN",
    "CTYPE2": "DEC--SIN",
    "CRVAL1": 83.63,
    "CRVAL2": 22.01,
    "CRPIX1": 20.0,
    "CRPIX2": 16.0,
    "CDELT1": -0.003,
    "CDELT2": 0.003,
}


def settings(dataset: str = "default", **config: Any) -> Settings:
    """Return the shipped instruments with a configuration."""
    return Settings.load(IngestConfig.model_validate(config), dataset)


def header(shape: tuple[int, ...], base: dict[str, Any] = RADIO, /, **cards: Any) -> fits.Header:
    """Return a header of float32 pixels; `DATE_OBS` is DATE-OBS, None leaves a card out."""
    made = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": len(shape)})
    for number, length in enumerate(reversed(shape), start=1):
        made[f"NAXIS{number}"] = length
    changes = {name.replace("_", "-") if name[:3] in {"DAT", "MJD", "TIM"} else name: v for name, v in cards.items()}
    for name, value in {**base, **changes}.items():
        if value is not None:
            made[name] = value
    return made


def noise(shape: tuple[int, ...], seed: int = 0, rms: float = 1.0) -> Pixels:
    """Return white noise."""
    return np.random.default_rng(seed).normal(0, rms, shape).astype(np.float32)


def frame(pixels: Pixels, cards: fits.Header | None = None, order: str = "fits", magic: bytes = MAGIC) -> bytes:
    """Return an image as AARTFAAC's imager frames it."""
    text = (header(pixels.shape) if cards is None else cards).tostring().encode("ascii")
    values = pixels.ravel(order="C") if order == "fits" else np.swapaxes(pixels, -1, -2).ravel(order="C")
    data = values.astype("<f4").tobytes()
    return b"".join([magic, struct.pack("<II", len(text), len(data)), bytes(496), text, data])


def bare(pixels: npt.NDArray[Any], cards: fits.Header | None = None) -> bytes:
    """Return an image as a FITS file holds it."""
    made = (header(pixels.shape) if cards is None else cards).copy()
    made["BITPIX"] = {"f": -8, "i": 8, "u": 8}[pixels.dtype.kind] * pixels.dtype.itemsize
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    return b"".join([made.tostring().encode("ascii"), data, bytes(-len(data) % 2880)])


def parse(data: bytes, chunk: int = 1 << 20, **options: Any) -> tuple[list[Event], StreamParser]:
    """Return what a stream of these bytes gives when it comes in pieces and ends."""
    parser = StreamParser(**options)
    events: list[Event] = []
    for start in range(0, len(data), chunk):
        events += parser.feed(data[start : start + chunk])
    return events + parser.end(), parser


def images(events: Iterable[Event]) -> list[Pixels]:
    """Return the pixels of the complete images."""
    return [event.pixels for event in events if isinstance(event, StreamImage)]


def reasons(events: Iterable[Event]) -> list[str]:
    """Return what is wrong with the broken ones."""
    return [event.reason for event in events if isinstance(event, BrokenImage)]
