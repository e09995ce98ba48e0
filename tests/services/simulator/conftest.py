"""A small telescope, and a reader of AARTFAAC streams that shares no code with the simulator."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from trapline.simulator.config import SimulatorConfig


class Received(NamedTuple):
    cards: dict[str, str]
    raw: npt.NDArray[np.float32]


def _value(card: str) -> str:
    text = card[10:]
    if text.lstrip().startswith("'"):
        return text.split("'")[1].rstrip()
    return text.split("/")[0].strip()


def _read_stream(data: bytes) -> list[Received]:
    """Return what a stream holds; `raw` is one-dimensional, in the order of the stream. Refuses anything odd."""
    images, position = [], 0
    while position < len(data):
        magic, header_size, pixel_size = struct.unpack_from("<QII", data, position)
        assert magic == 0x47494A53484F4D4F
        assert data[position + 16 : position + 512] == bytes(496)
        position += 512
        text = data[position : position + header_size].decode("ascii")
        assert header_size % 2880 == 0
        position += header_size
        pixels = np.frombuffer(data[position : position + pixel_size], dtype="<f4")
        assert pixels.nbytes == pixel_size, "the last image is cut"
        position += pixel_size
        cards = [text[i : i + 80] for i in range(0, len(text), 80)]
        end = [card.rstrip() for card in cards].index("END")
        assert not "".join(cards[end + 1 :]).strip()
        images.append(Received({card[:8].rstrip(): _value(card) for card in cards[:end]}, pixels))
    return images


@pytest.fixture(scope="session")
def read_stream() -> Callable[[bytes], list[Received]]:
    return _read_stream


@pytest.fixture
def small() -> SimulatorConfig:
    """A field of 160 x 120 pixels, inside the horizon, with a handful of sources."""
    return SimulatorConfig(nx=160, ny=120, n_steady=4, n_variable=2, separation_beams=3, edge_px=12)
