"""What a telescope stream gives: images, broken images, and counts."""

from __future__ import annotations

from dataclasses import dataclass

from astropy.io.fits import Header as FitsHeader

from trapline.image_ingest.layout import Pixels


@dataclass(frozen=True, slots=True)
class StreamImage:
    """One complete image of a stream."""

    header: FitsHeader
    pixels: Pixels
    """shape (ny, nx), C order"""
    position: int
    """bytes of the stream before this image"""
    plane: str = ""
    """which plane of a cube; "" when there is one"""


@dataclass(frozen=True, slots=True)
class BrokenImage:
    """An image that began and cannot be had."""

    reason: str
    data: bytes
    """what there was of it"""
    position: int


Event = StreamImage | BrokenImage


@dataclass(slots=True)
class StreamCounters:
    """What came over a stream since the start, over all connections."""

    received_bytes: int = 0
    images: int = 0
    skipped_bytes: int = 0
    """bytes that did not become an image"""
    resyncs: int = 0
    truncated: int = 0
    refused: int = 0
