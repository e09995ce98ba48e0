"""Rows of `point`, `object` and `object_state`, from the columns of `lightcurves`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from trapline.common.store.bins import POSTGRES_EPOCH_US, bins_of_points, ids_of
from trapline.database_dumper.binary_copy import Column, Field, timestamps
from trapline.database_dumper.values import as_text, dataset_id
from trapline.schemas.columns import Arrays, Kind, SchemaError, array_to_ids
from trapline.schemas.lightcurves import INHERITED, POINTS, STATES, Lightcurves

_IDS = {"_id": "point_id", "object": "object_id", "source": "source_id"}
_MEASURED = (
    "ra_deg", "dec_deg", "pos_err_ew_deg", "pos_err_ns_deg", "flux_peak", "flux_peak_err", "flux_int", "flux_int_err",
    "v", "eta", "snr", "deruiter",
)  # fmt: skip
_OBJECT_COLUMNS = (
    "object_id", "object_ra_deg", "object_dec_deg", "object_err_ew_deg", "object_err_ns_deg", "first_seen_us", "kind",
)  # fmt: skip
_STATISTICS = (
    "flux_mean", "flux_mean_weighted", "flux_mean_weighted_err", "flux_std", "flux_min", "flux_max", "v", "eta",
)  # fmt: skip
_MAX_INTEGER = (1 << 31) - 1
_TAIL_BITS = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one record, with what they share."""

    dataset: bytes
    image: bytes
    t: int
    """start of the image, as the server counts"""
    band: bytes
    unit: bytes | None
    points: Mapping[str, Column]
    states: Mapping[str, Column]
    inherited: Sequence[tuple[bytes, Mapping[str, Column]]] = ()
    """states of children of forks in other bands, by band"""


def block_of(header: Lightcurves, arrays: Arrays) -> Block | None:
    """Return the rows of a record; None when it has none.

    Raises
    ------
    SchemaError
        When rows come without an image, a start or a band, or a time does not fit.
    """
    points: dict[str, Column] = POINTS.select(arrays)
    states: dict[str, Column] = _with_errors(STATES.select(arrays))
    if not len(points.get("kind", ())) and not len(states.get("n", ())):
        return None
    image = header.image
    if image is None or image.t_start_us is None or image.band is None:
        raise SchemaError("a lightcurves record with rows needs `image` with `t_start_us` and `band`")
    t = int(timestamps(np.array([image.t_start_us]), "image.t_start_us")[0])
    timestamps(points["first_seen_us"], "first_seen_us")
    if states:
        timestamps(states["last_seen_us"], "states.last_seen_us")
    unit = None if image.unit is None else as_text(image.unit).encode()
    band, inherited = as_text(image.band.name).encode(), list(_inherited(header, arrays))
    return Block(dataset_id(header.dataset), image.id, t, band, unit, points, states, inherited)


def _inherited(header: Lightcurves, arrays: Arrays) -> Iterator[tuple[bytes, Mapping[str, Column]]]:
    """Yield the states of children of forks, band by band.

    Raises
    ------
    SchemaError
        When a row names a band that the header does not.
    """
    columns: dict[str, Column] = _with_errors(INHERITED.select(arrays))
    numbers, bands = columns.pop("band", np.zeros(0, np.uint8)), header.inherited_bands
    if len(numbers) and int(numbers.max()) >= len(bands):
        raise SchemaError(f"inherited.band names band {numbers.max()}, and there are {len(bands)} `inherited_bands`")
    for number in np.unique(numbers).tolist():
        rows = {name: column[numbers == number] for name, column in columns.items()}
        timestamps(rows["last_seen_us"], "inherited.last_seen_us")
        yield as_text(bands[number].name).encode(), rows


def _with_errors(states: dict[str, Column]) -> dict[str, Column]:
    """Add what older associators did not tell, as unknown."""
    return {"flux_mean_weighted_err": np.full(len(states["n"]), np.nan), **states} if states else states


def point_fields(block: Block) -> dict[str, Field]:
    """Return the columns of `point` of one record."""
    columns = block.points
    return {
        **{name: columns[column] for name, column in _IDS.items()},
        "image": block.image,
        "t": block.t.to_bytes(8, "big", signed=True),
        **{name: columns[name] for name in _MEASURED},
        "flags": columns["flags"].view(np.int32),
        "n": _integers(columns["n"]),
        "kind": columns["kind"].astype(np.int16),
        "link": columns["link"].astype(np.int16),
        "band": block.band,
    }


def bin_rows(block: Block, band: int, chosen: Column | None = None) -> Column:
    """Return the points of one record, all or some, as bins of one."""
    columns = block.points if chosen is None else {name: column[chosen] for name, column in block.points.items()}
    return bins_of_points(
        columns["object_id"], band, block.t + POSTGRES_EPOCH_US, columns["flux_int"], columns["flux_int_err"],
        columns["kind"] != Kind.BLIND,
    )  # fmt: skip


def bin_fields(rows: Column, bands: Sequence[bytes]) -> Iterator[dict[str, Field]]:
    """Yield, band by band, the columns of a table of bins."""
    for number in np.unique(rows["band"]):
        band, chosen = bands[number], rows[rows["band"] == number]
        objects = ids_of(chosen)
        yield {
            "_id": state_ids(objects, band),
            "object": objects,
            "t": timestamps(chosen["t"], "t of a bin"),
            "flux_mean": chosen["flux_mean"],
            "flux_err": 1 / np.sqrt(chosen["weight"]),
            **{name: chosen[name] for name in ("flux_min", "flux_max", "chi2", "n", "n_forced")},
            "band": band,
        }


def object_fields(blocks: Sequence[Block]) -> dict[str, Field]:
    """Return one row per object of all records, as the last one left it."""
    joined = {name: np.concatenate([b.points[name] for b in blocks]) for name in _OBJECT_COLUMNS}
    rows, last = last_of_each(joined["object_id"])
    t = np.repeat(np.array([b.t for b in blocks]), [len(b.points["kind"]) for b in blocks])
    first_seen = timestamps(joined["first_seen_us"], "first_seen_us")
    # Before the first detection of a watched position there is no better time than its first.
    seen = np.where(joined["kind"] == Kind.BLIND, t, first_seen)
    last_seen = seen[last]
    np.maximum.at(last_seen, rows, seen)
    datasets = np.repeat(_ids([b.dataset for b in blocks]), [len(b.points["kind"]) for b in blocks], axis=0)
    return {
        "_id": joined["object_id"][last],
        "dataset": datasets[last],
        "ra_deg": joined["object_ra_deg"][last],
        "dec_deg": joined["object_dec_deg"][last],
        "pos_err_ew_deg": joined["object_err_ew_deg"][last],
        "pos_err_ns_deg": joined["object_err_ns_deg"][last],
        "first_seen": first_seen[last],
        "last_seen": last_seen,
        "kind": (joined["kind"][last] == Kind.MONITORED).astype(np.int16),
    }


def state_fields(blocks: Iterable[Block]) -> Iterator[dict[str, Field]]:
    """Yield, band by band, one row per object of all records: its newest statistics."""
    by_band: dict[bytes, list[Mapping[str, Column]]] = {}
    units: dict[bytes, bytes | None] = {}
    for block in blocks:
        if block.states:
            by_band.setdefault(block.band, []).append(block.states)
            units[block.band] = block.unit
        for band, states in block.inherited:
            by_band.setdefault(band, []).append(states)
    for band, group in by_band.items():
        joined = {c.name: np.concatenate([states[c.name] for states in group]) for c in STATES.columns}
        _, last = last_of_each(joined["object_id"])
        ids = joined["object_id"][last]
        yield {
            "_id": state_ids(ids, band),
            "object": ids,
            **{name: joined[name][last] for name in _STATISTICS},
            "last_seen": timestamps(joined["last_seen_us"][last], "states.last_seen_us"),
            "n": _integers(joined["n"][last]),
            "n_blind": _integers(joined["n_blind"][last]),
            "band": band,
            # What is inherited alone has no image that tells its unit: the next point does.
            "unit": units.get(band),
        }


def last_of_each(ids: Column) -> tuple[Column, Column]:
    """Return for (n, 16) ids the number of each row's id, and for each number the last row that has it."""
    numbers: dict[bytes, int] = {}
    rows = np.array([numbers.setdefault(i, len(numbers)) for i in array_to_ids(ids)], np.intp)
    last = np.zeros(len(numbers), np.intp)
    last[rows] = np.arange(len(rows))
    return rows, last


def state_ids(objects: Column, band: bytes) -> Column:
    """Return (n, 16) ids of the states of objects in a band: in place of the last 62 bits, these with the band's hash.

    The time of the object stays in front, so that the index stays dense; no row is hashed by itself.
    """
    tail = (xxhash.xxh3_64_intdigest(band) & _TAIL_BITS).to_bytes(8, "big")
    return objects ^ np.frombuffer(bytes(8) + tail, np.uint8)


def _ids(ids: Sequence[bytes]) -> Column:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


def _integers(counts: Column) -> Column:
    return np.minimum(counts, _MAX_INTEGER).astype(np.int32)
