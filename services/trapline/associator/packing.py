"""Requests and recent images as plain values and columns, and back: parts of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from trapline.associator.footprint import Footprint
from trapline.associator.pairs import Pairs
from trapline.associator.requests import Folded, Request
from trapline.common.table import GrowingTable
from trapline.schemas.columns import Array
from trapline.schemas.header import Place
from trapline.schemas.image import Image

PAIR = np.dtype(
    [
        ("request", "i4"),  # number of the request in the header
        ("row", "i8"),
        ("object_id", "u1", (16,)),
        ("ra_deg", "f8"),
        ("dec_deg", "f8"),
        ("kind", "u1"),
        ("misses", "u4"),
    ]
)
_PREFIX = "requests."


def pack_footprint(footprint: Footprint) -> dict[str, Any]:
    """Return a footprint as plain values."""
    return {
        "wcs": footprint.wcs,
        "shape": list(footprint.shape),
        "radius_deg": footprint.radius_deg,
        "margin_px": footprint.margin_px,
    }


def unpack_footprint(words: Mapping[str, Any]) -> Footprint:
    """Return the footprint that was packed."""
    ny, nx = words["shape"]
    return Footprint(words["wcs"], (ny, nx), words["radius_deg"], words["margin_px"])


def pack_folded(folded: Folded) -> dict[str, Any]:
    """Return a folded image as plain values."""
    values = {"image": folded.image, "image_place": folded.image_place, "sources_place": folded.sources_place}
    plain = {name: msgspec.to_builtins(value, builtin_types=(bytes,)) for name, value in values.items()}
    return plain | {"footprint": pack_footprint(folded.footprint), "order": folded.order}


def unpack_folded(words: Mapping[str, Any]) -> Folded:
    """Return the folded image that was packed."""
    return Folded(
        msgspec.convert(words["image"], Image, builtin_types=(bytes,)),
        msgspec.convert(words["image_place"], Place),
        msgspec.convert(words["sources_place"], Place | None),
        unpack_footprint(words["footprint"]),
        words["order"],
    )


def pack_requests(requests: Iterable[Request], arrays: dict[str, Array]) -> list[dict[str, Any]]:
    """Return requests as plain values, and put their pairs into the arrays."""
    requests = list(requests)
    table = GrowingTable(PAIR, np.zeros(sum(len(r.pairs) for r in requests), PAIR))
    table.rows["request"] = np.repeat(np.arange(len(requests)), [len(r.pairs) for r in requests])
    first = 0
    for request in requests:
        rows = slice(first, first := first + len(request.pairs))
        table.rows["row"][rows] = request.pairs.rows
        for name in ("object_id", "ra_deg", "dec_deg", "kind", "misses"):
            table.rows[name][rows] = getattr(request.pairs, name)
    arrays |= table.columns(_PREFIX)
    # Many ask for the same images: those of the backfill ring.
    images = {id(r.of): r.of for r in requests}
    packed = {key: pack_folded(of) for key, of in images.items()}
    return [{"id": r.id, "dataset": r.dataset, "of": packed[id(r.of)]} for r in requests]


def unpack_requests(entries: Iterable[Mapping[str, Any]], arrays: Mapping[str, Array]) -> dict[bytes, Request]:
    """Return the requests that were packed, by id."""
    rows = GrowingTable.from_columns(PAIR, arrays, _PREFIX).rows
    found = {}
    for number, entry in enumerate(entries):
        mine = rows[rows["request"] == number]
        columns = [np.ascontiguousarray(mine[name]) for name in ("object_id", "ra_deg", "dec_deg", "kind", "misses")]
        pairs = Pairs(mine["row"].astype(np.intp), *columns)
        found[entry["id"]] = Request(entry["id"], entry["dataset"], unpack_folded(entry["of"]), pairs)
    return found
