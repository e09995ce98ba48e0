"""The state as a header and arrays, and back: a fold that continues from a snapshot gives the same output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trapline.associator.beginning import REBUILD
from trapline.associator.catalogue import OBJECT, Catalogue
from trapline.associator.cells import LIMIT, Pages
from trapline.associator.coverage import Coverage, Layer, Pointing
from trapline.associator.footprint import Footprint
from trapline.associator.history import PLACE, History, block_of
from trapline.associator.migration import migrated
from trapline.associator.packing import (
    pack_folded,
    pack_footprint,
    pack_requests,
    unpack_folded,
    unpack_footprint,
    unpack_requests,
)
from trapline.associator.regions import EVERYWHERE, Domain
from trapline.associator.requests import Recent
from trapline.associator.state import AssociatorState, Sky
from trapline.associator.statistics import ROW_OF, STATISTIC, BandStatistics
from trapline.common.runtime.snapshot import SnapshotError, restoring
from trapline.common.table import GrowingTable
from trapline.schemas.columns import Array, array_to_ids, ids_to_array

VERSION = "trapline.associator.snapshot/3"


def dump(state: AssociatorState) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the state as a map that msgpack can pack, and arrays by name: copies, so that the stream can go on."""
    arrays: dict[str, Array] = {"folded": ids_to_array(state.folded).copy()}
    skies = []
    for number, (dataset, sky) in enumerate(state.skies.items()):
        prefix = f"{number}."
        arrays |= sky.catalogue.table.columns(f"{prefix}objects.")
        skies.append(
            {
                "dataset": dataset,
                "watermark_us": sky.watermark_us,
                "n_measured": sky.n_measured,
                "bands": _dump_bands(sky, arrays, prefix),
                "layers": _dump_layers(sky.coverage, arrays, prefix),
                "histories": _dump_histories(sky, arrays, prefix),
                "recent": [[list(band), list(map(pack_folded, images))] for band, images in sky.recent.bands.items()],
            }
        )
    requests = pack_requests(state.requests.values(), arrays)
    words = {"version": VERSION, "region": state.domain.cells, "skies": skies, "requests": requests}
    return words | {"told": state.told}, arrays


def load(header: Mapping[str, Any], arrays: Mapping[str, Array], domain: Domain = EVERYWHERE) -> AssociatorState:
    """Return the state that was dumped, of an associator that owns `domain`.

    Raises
    ------
    SnapshotError
        When it is of another version or another part of the sky, or something is missing or not of its type.
    """
    header, columns = migrated(header, arrays)
    with restoring(header, VERSION, REBUILD):
        region = header["region"]
    if region != domain.cells:
        raise SnapshotError(
            f"the snapshot is of the region {region!r}, [[associator.regions]] now says {domain.cells!r}: "
            f"{REBUILD}, on all owners"
        )
    with restoring(header, VERSION, REBUILD):
        skies = {entry["dataset"]: _load_sky(entry, columns, f"{n}.") for n, entry in enumerate(header["skies"])}
        folded = dict.fromkeys(array_to_ids(_ids(columns["folded"])))
        requests = unpack_requests(header["requests"], columns)
        return AssociatorState(skies, folded, requests, header["told"], domain)


def _ids(array: Array) -> Array:
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != 16:
        raise ValueError(f"folded is {array.dtype} {array.shape}, not uint8 (n, 16)")
    return array


def _dump_bands(sky: Sky, arrays: dict[str, Array], prefix: str) -> list[list[str]]:
    for number, statistics in enumerate(sky.bands.values()):
        arrays |= statistics.table.columns(f"{prefix}band{number}.")
        arrays |= statistics.objects.columns(f"{prefix}band{number}.objects.")
    return [list(band) for band in sky.bands]


def _dump_histories(sky: Sky, arrays: dict[str, Array], prefix: str) -> list[dict[str, Any]]:
    found = []
    for number, (band, history) in enumerate(sky.histories.items()):
        at = f"{prefix}history{number}."
        arrays |= history.places.columns(f"{at}places.")
        for tier, table in enumerate(history.tiers):
            arrays |= table.columns(f"{at}{tier}.")
        found.append({"band": list(band), "limit": history.limit})
    return found


def _load_history(limit: int, arrays: dict[str, Array], at: str) -> History:
    sizes = History(limit).sizes
    tiers = [GrowingTable.from_columns(block_of(size), arrays, f"{at}{tier}.") for tier, size in enumerate(sizes)]
    return History(limit, GrowingTable.from_columns(PLACE, arrays, f"{at}places."), tiers)


def _dump_layers(coverage: Coverage, arrays: dict[str, Array], prefix: str) -> list[dict[str, Any]]:
    layers = []
    for number, ((band, order), layer) in enumerate(coverage.layers.items()):
        at = f"{prefix}layer{number}."
        arrays |= layer.cells.columns(at)
        arrays |= _table(LIMIT, [p.limit for p in layer.open.values()]).columns(f"{at}open.")
        layers.append(
            {
                "band": list(band),
                "order": order,
                "open": [pack_footprint(f) | {"n": p.n} for f, p in layer.open.items()],
            }
        )
    return layers


def _table(dtype: np.dtype[Any], rows: list[Any]) -> GrowingTable:
    return GrowingTable(dtype, np.concatenate(rows) if rows else np.zeros(0, dtype))


def _load_sky(entry: Mapping[str, Any], arrays: dict[str, Array], prefix: str) -> Sky:
    catalogue = Catalogue.of(GrowingTable.from_columns(OBJECT, arrays, f"{prefix}objects."))
    bands = {}
    for number, (name, stokes) in enumerate(entry["bands"]):
        at = f"{prefix}band{number}."
        table = GrowingTable.from_columns(STATISTIC, arrays, at)
        bands[name, stokes] = BandStatistics(table, GrowingTable.from_columns(ROW_OF, arrays, f"{at}objects."))
    coverage = Coverage(
        {
            ((layer["band"][0], layer["band"][1]), layer["order"]): _load_layer(
                layer, arrays, f"{prefix}layer{number}."
            )
            for number, layer in enumerate(entry["layers"])
        }
    )
    recent = Recent({(band[0], band[1]): map(unpack_folded, images) for band, images in entry["recent"]})
    sky = Sky(catalogue, bands, coverage, entry["watermark_us"], entry["n_measured"], recent)
    for number, words in enumerate(entry["histories"]):
        band = words["band"][0], words["band"][1]
        sky.histories[band] = _load_history(words["limit"], arrays, f"{prefix}history{number}.")
    sky.look_around()
    return sky


def _load_layer(entry: Mapping[str, Any], arrays: dict[str, Array], at: str) -> Layer:
    limits = GrowingTable.from_columns(LIMIT, arrays, f"{at}open.").rows
    pointings: dict[Footprint, Pointing] = {}
    for number, words in enumerate(entry["open"]):
        pointings[unpack_footprint(words)] = Pointing(words["n"], limits[number : number + 1].copy())
    return Layer(pointings, Pages.from_columns(arrays, at))
