"""Multipart messages that no client of ours would send: a corpus, and a seeded fuzzer that mutates real requests."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import numpy as np

DEEP = b"\x91" * 5000 + b"\xc0"
"""a list in a list in a list"""
CORPUS: tuple[list[bytes], ...] = (
    [],
    [b""],
    [b"", b"", b""],
    [b"\x00" * 100_000],
    [b"\xc1"],
    [DEEP],
    [b"\x81\xa2id" + DEEP],
    [b"\xdf\xff\xff\xff\xff"],
    [b"\xdd\xff\xff\xff\xff"],
    [b"\xc6\xff\xff\xff\xff"],
    [msgpack.packb({"id": 1, "op": "fetch", "cursors": "all"})],
    [msgpack.packb({"id": "x", "op": "info"})],
    [msgpack.packb({"id": 2**64 - 1, "op": "info"})],
    [msgpack.packb({"id": -(2**63), "op": "info"})],
    [msgpack.packb({"id": 1.5, "op": "info"})],
    [msgpack.packb({"id": 1, "op": "lease", "group": "\x00", "worker": "", "channels": [1]})],
    [msgpack.packb({"id": -5, "op": "ack", "group": "g", "items": [{"channel": "images"}]})],
    [msgpack.packb({"id": 1, "op": "fetch", "cursors": [{"channel": "images", "partition": "0", "seq": 2**63}]})],
    [msgpack.packb({"id": 1, "op": "append", "channel": "../..", "partition": "etc"}), b"x"],
    [msgpack.packb({"id": 1, "op": "append", "channel": "x" * 10_000, "partition": "0"}), b"x"],
    [msgpack.packb({"id": 1, "op": "append", "channel": "a", "partition": "b"}), *[b""] * 5000],
    [msgpack.packb({"id": 1, "op": "extend", "group": "g", "worker": "w", "items": [{}] * 1000})],
    [msgpack.packb({1: 2, None: 3, b"id": b"op"})],
    [msgpack.packb([1, 2, 3])],
    [msgpack.packb(msgpack.ExtType(5, b"pickle"))],
    [msgpack.packb(msgpack.Timestamp(2**33, 999_999_999))],
)

_PLACE = {"channel": "images", "partition": "0", "seq": 1}
_REAL = (
    {"op": "info"},
    {"op": "fetch", "cursors": [{**_PLACE, "epoch": 0}], "max_bytes": 1000, "wait_ms": 0},
    {"op": "find", "channel": "images", "partition": "0", "t_us": 5},
    {"op": "lease", "group": "fuzz", "worker": "w", "channels": ["images"], "wait_ms": 0},
    {"op": "extend", "group": "fuzz", "worker": "w", "items": [_PLACE], "handling": [_PLACE]},
    {"op": "ack", "group": "fuzz", "items": [_PLACE]},
    {"op": "nack", "group": "fuzz", "items": [_PLACE], "failed": True},
    {"op": "leave", "group": "fuzz", "worker": "w"},
    {"op": "position", "reader": "fuzz", "reads": [{**_PLACE, "safe": 0}]},
    {"op": "positions", "reader": "fuzz"},
    {"op": "tick", "channel": "images", "partition": "0"},
    {"op": "append", "channel": "fuzz", "partition": "0"},
)
_ODD = (None, True, -1, 0, 2**31, 2**63 - 1, 2**64 - 1, 1e308, float("nan"), "", "x" * 300, b"\xff" * 20, [], {}, [[]])


def fuzz(seed: int, count: int) -> Iterator[list[bytes]]:
    """Yield messages: random bytes, real requests with odd values, and real requests with flipped bytes."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        request = dict(_REAL[random.integers(len(_REAL))], id=int(random.integers(1, 1000)))
        kind = random.integers(3)
        if kind == 0:
            yield [random.bytes(int(random.integers(0, 200))) for _ in range(int(random.integers(1, 5)))]
        elif kind == 1:
            key = sorted(request)[int(random.integers(len(request)))]
            request[key] = _ODD[int(random.integers(len(_ODD)))]
            yield [msgpack.packb(request), random.bytes(10)]
        else:
            data = bytearray(msgpack.packb(request))
            for position in random.integers(0, len(data), int(random.integers(1, 4))):
                data[position] = int(random.integers(256))
            yield [bytes(data), *[random.bytes(20)] * int(random.integers(3))]
