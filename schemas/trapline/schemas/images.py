"""Channel `images`: one record per image, one per command, and one where a finite source ends."""

from __future__ import annotations

from typing import Annotated

import msgspec

from trapline.schemas.columns import Plane
from trapline.schemas.header import DecDeg, Header, Id, RaDeg, doc
from trapline.schemas.image import Image

SCHEMA = "trapline.images/1.0"

PIXELS = Plane("pixels", "f4", ("ny", "nx"), "the image, `im[y, x]`; absent on commands and unreadable input", "unit")
MASK = Plane("mask", "u1", ("ny", "nx"), "non-zero where a pixel must not be used")
WEIGHT = Plane("weight", "f4", ("ny", "nx"), "inverse variance", "1 / unit^2")


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that changes what is computed, and so takes its place among the images."""

    name: Annotated[str, doc("monitor_add or monitor_remove")]
    object_id: Annotated[Id, doc("id of the monitored position")]
    ra_deg: RaDeg | None = None
    dec_deg: DecDeg | None = None
    label: Annotated[str, doc("a name for a person")] = ""


class Injected(msgspec.Struct, frozen=True):
    """A fake source that ingest added to the pixels: the truth that results are compared with."""

    ra_deg: RaDeg
    dec_deg: DecDeg
    x: Annotated[float, doc("0-based column", "px")]
    y: Annotated[float, doc("0-based row", "px")]
    flux: Annotated[float, doc("peak of the added point source, in the image's unit")]
    snr: Annotated[float, doc("flux over the image's noise")]


class Images(Header, kw_only=True, omit_defaults=True):
    """Header of a record on `images`."""

    image: Annotated[Image | None, doc("absent on a command and at the end of a stream")] = None
    command: Annotated[Command | None, doc("absent on an image")] = None
    injected: Annotated[list[Injected], doc("fake sources in the pixels of an image of the role injection")] = []
    end_of_stream: Annotated[bool, doc("true on the final record of a finite source")] = False
