"""Fields that every message begins with, and the words they are made of."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


def doc(text: str, unit: str | None = None, **limits: Any) -> msgspec.Meta:
    """Describe a field: what it is, its unit, and its limits (those of `msgspec.Meta`)."""
    extra = {"x-unit": unit} if unit else None
    return msgspec.Meta(description=text, extra_json_schema=extra, **limits)


Id = Annotated[bytes, doc("UUIDv8 made where the fact was born", min_length=16, max_length=16)]
RaDeg = Annotated[float, doc("right ascension, ICRS", "deg", ge=0, lt=360)]
DecDeg = Annotated[float, doc("declination, ICRS", "deg", ge=-90, le=90)]
Seconds = Annotated[float, doc("duration", "s", ge=0)]


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a record stands: a partition of a channel, the writer's epoch, and a number without holes."""

    channel: Annotated[str, doc("name of the channel")]
    partition: Annotated[str, doc("name of the partition, one writer each")]
    epoch: Annotated[int, doc("grows when a writer reopens after an unclean end", ge=0)]
    seq: Annotated[int, doc("counts up from 0 without holes, across epochs", ge=0)]

    def __str__(self) -> str:
        """Return the form that logs and the command line use: ``images/0@3:41``."""
        return f"{self.channel}/{self.partition}@{self.epoch}:{self.seq}"


class Frame(msgspec.Struct, frozen=True):
    """One raw array that follows the header, little-endian and in C order."""

    name: Annotated[str, doc("name of the array; columns of a second table carry its name before a dot")]
    dtype: Annotated[str, doc("numpy's short name without byte order: f4, f8, u1, u4, i8")]
    shape: Annotated[list[int], doc("lengths of the axes, slowest first")]


class Header(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What every message says of itself. Messages add their own fields."""

    schema: Annotated[str, doc('name and version of the message: "trapline.sources/1.0"')]
    id: Annotated[Id, doc("hash of schema, image and request: the same input gives the same id")]
    dataset: Annotated[str, doc("separates one processing of the sky from another", min_length=1)] = "default"
    producer: Annotated[str, doc('service and replica that made it: "source_extractor/1"')] = ""
    parents: Annotated[list[Id], doc("ids of the records it was made from")] = []
    consumed: Annotated[list[Place], doc("places of the inputs; only folds fill it, so that replay repeats them")] = []
    trace: Annotated[str | None, doc("W3C traceparent; absent when nothing traces")] = None
    config: Annotated[str | None, doc("hash of the effective configuration that made it")] = None
    t_pub_us: Annotated[int, doc("when it was published, since 1970-01-01 UTC", "us")] = 0
    frames: Annotated[list[Frame], doc("the arrays that follow, in order")] = []
