"""Ids that are made where a fact is born, without asking anyone: the same input gives the same id.

An id is a UUIDv8 (RFC 9562): 48 bits of the observation start in Unix milliseconds, the version, 12 bits of a hash, the
variant, and 62 further bits of that hash. Ids therefore sort by observation time, which keeps database indexes dense.
The hash is the first 74 bits of xxh3_128 over a msgpack array that begins with the kind of the fact.
"""

from __future__ import annotations

import uuid

import numpy as np
import xxhash

from trapline.schemas.columns import Array
from trapline.schemas.packing import pack

Part = bytes | str | int | float | None

_MAX_MS = (1 << 48) - 1


def fact_id(t_us: int, kind: str, *parts: Part) -> bytes:
    """Return the 16 bytes of the id of a fact.

    Parameters
    ----------
    t_us
        Observation start in microseconds since 1970-01-01 UTC. Times before 1970 count as 0.
    kind
        What sort of fact this is: equal parts of different kinds have different ids.
    parts
        What makes the fact this fact.
    """
    digest = xxhash.xxh3_128_intdigest(pack([kind, *parts]))
    first_74 = digest >> (128 - 74)
    milliseconds = min(max(t_us // 1000, 0), _MAX_MS)
    high, low = first_74 >> 62, first_74 & ((1 << 62) - 1)
    return ((milliseconds << 80) | (8 << 76) | (high << 64) | (2 << 62) | low).to_bytes(16, "big")


def id_time_us(fact: bytes) -> int:
    """Return the observation start that an id begins with, in microseconds, cut to whole milliseconds."""
    return int.from_bytes(fact[:6], "big") * 1000


def text_id(fact: bytes) -> str:
    """Return the usual text form of an id, with hyphens."""
    return str(uuid.UUID(bytes=fact))


def parse_id(text: str) -> bytes:
    """Return the id that a person typed, or raise `ValueError` saying what an id looks like."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise ValueError(f"{text!r} is not an id; an id looks like {uuid.UUID(int=0)}") from None


def image_id(
    pixels: Array,
    *,
    dataset: str,
    instrument: str,
    band: str,
    stokes: str,
    t_start_us: int,
    exposure_s: float,
) -> bytes:
    """Return the id of an image: who took it, when, and xxh3_128 of its pixels (C order, little-endian)."""
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    pixel_hash = xxhash.xxh3_128_digest(little.data)
    return fact_id(t_start_us, "image", dataset, instrument, band, stokes, t_start_us, float(exposure_s), pixel_hash)


def unreadable_id(dataset: str, data: bytes | memoryview | xxhash.xxh3_128) -> bytes:
    """Return the id of input that no image could be read from: time 0 and xxh3_128 of its bytes, or that hash."""
    digest = data.digest() if isinstance(data, xxhash.xxh3_128) else xxhash.xxh3_128_digest(data)
    return fact_id(0, "unreadable", dataset, digest)


def record_id(t_us: int, schema: str, image: bytes, request: bytes = b"") -> bytes:
    """Return the id of a record: its schema without version, the image it is about, and the request it answers."""
    return fact_id(t_us, "record", schema.partition("/")[0], image, request)


def blind_source_id(t_us: int, image: bytes, rank: int) -> bytes:
    """Return the id of a blind source: its image, and its rank in the order of (y, x)."""
    return fact_id(t_us, "source", image, rank)


def forced_source_id(t_us: int, image: bytes, object_id: bytes, kind: int) -> bytes:
    """Return the id of a measurement at a known position."""
    return fact_id(t_us, "forced", image, object_id, kind)


def object_id(t_us: int, founding_source: bytes) -> bytes:
    """Return the id of an object: its founding source."""
    return fact_id(t_us, "object", founding_source)


def fork_child_id(t_us: int, parent: bytes, source: bytes) -> bytes:
    """Return the id of an object that continues another, which forked: (parent, source)."""
    return fact_id(t_us, "fork", parent, source)


def monitored_id(dataset: str, ra_deg: float, dec_deg: float) -> bytes:
    """Return the id of a monitored position: its time is 0."""
    return fact_id(0, "monitored", dataset, float(ra_deg), float(dec_deg))


def point_id(t_us: int, object_: bytes, source: bytes) -> bytes:
    """Return the id of a point of a lightcurve: (object, source)."""
    return fact_id(t_us, "point", object_, source)


def event_id(t_us: int, object_: bytes, rule: str, opening_image: bytes) -> bytes:
    """Return the id of an event: (object, rule, opening image)."""
    return fact_id(t_us, "event", object_, rule, opening_image)
