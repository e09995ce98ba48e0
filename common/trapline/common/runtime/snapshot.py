"""A fold's state on disk: written atomically, checked when read, the last one kept until the next is safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import xxhash

from trapline.common.journal.epochs import replace_file
from trapline.schemas.columns import Array
from trapline.schemas.packing import pack

_MAGIC = b"trapline snapshot 1\n"


class Snapshot(NamedTuple):
    """A header of plain values, and arrays by name."""

    header: dict[str, Any]
    arrays: dict[str, Array]


class SnapshotError(ValueError):
    """A file that is no snapshot of this version. The text names it and the way out."""


@contextmanager
def restoring(header: Mapping[str, Any], version: str, way_out: str = "remove it to begin anew") -> Iterator[None]:
    """Turn what goes wrong while a state is made from a snapshot into `SnapshotError`, a wrong version first of all."""
    if header.get("version") != version:
        found = header.get("version")
        raise SnapshotError(f"the snapshot is {found!r}, this program reads {version!r}: {way_out}")
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(f"the snapshot is damaged ({type(error).__name__}: {error}): {way_out}") from error


def write_snapshot(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a snapshot beside the old one and put it in its place, synced."""
    frames = [np.ascontiguousarray(a) for a in arrays.values()]
    index = [(name, a.dtype.str, list(a.shape)) for name, a in zip(arrays, frames, strict=True)]
    body = b"".join([pack({"header": dict(header), "arrays": index}), *(a.tobytes() for a in frames)])
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _MAGIC + xxhash.xxh3_64_digest(body) + body)


def read_snapshot(path: Path) -> Snapshot | None:
    """Return a snapshot; None when there is none.

    Raises
    ------
    SnapshotError
        When the file is damaged or of another version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(_MAGIC) + 8
    if not data.startswith(_MAGIC) or xxhash.xxh3_64_digest(data[start:]) != data[len(_MAGIC) : start]:
        raise SnapshotError(f"{path} is damaged or of another version; remove it to rebuild the state from the journal")
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(memoryview(data)[start:])
    values = unpacker.unpack()
    position = start + unpacker.tell()
    arrays = {}
    for name, dtype, shape in values["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(data, dtype, count, position).reshape(shape).copy()
        position += arrays[name].nbytes
    return Snapshot(values["header"], arrays)
