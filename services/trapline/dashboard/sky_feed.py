"""The objects that were seen a moment ago, for maps that are open: read from `lightcurves` only while one is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trapline.common.channel import ChannelReader, Channels, Record, RelayRefusedError, RelayUnreachableError
from trapline.dashboard.hub import Hub
from trapline.schemas.columns import Kind, SchemaError
from trapline.schemas.lightcurves import Lightcurves

TOPIC = "sky"
_KEPT = 400
_COLUMNS = {"ra_deg": "object_ra_deg", "dec_deg": "object_dec_deg", "flux": "flux_mean_weighted"}
ROW = np.dtype([("ra_deg", "<f4"), ("dec_deg", "<f4"), ("flux", "<f4"), ("kind", "<f4"), ("key", "S16")])
Rows = npt.NDArray[Any]


class Batch(NamedTuple):
    """What one record of `lightcurves` changed, when it was published (us since 1970-01-01 UTC), and its unit."""

    version: int
    t_pub_us: int
    rows: Rows
    unit: str | None


class SkyFeed:
    """Keeps the last changes of objects, by version."""

    def __init__(self) -> None:
        self.version = 0
        self._batches: deque[Batch] = deque(maxlen=_KEPT)

    async def follow(self, connection: Channels, hub: Hub) -> None:
        """Read while a map is open, and tell the maps; for ever."""
        while True:
            await hub.somebody()
            if not hub.watched(TOPIC):
                await asyncio.sleep(0.5)
                continue
            reader = ChannelReader(connection, ("lightcurves",), start="latest")
            while hub.watched(TOPIC):
                try:
                    items = await reader.read(1.0)
                except (RelayUnreachableError, RelayRefusedError):
                    await asyncio.sleep(1.0)
                    continue
                if sum(self._take(item) for item in items if isinstance(item, Record)):
                    hub.bump([TOPIC])
            # What nobody watched is not known: maps that open later begin with the store.
            self._batches.clear()
            self.version += 1

    def since(self, version: int) -> tuple[bool, list[Batch]]:
        """Return whether nothing is missing behind a version, and what changed since."""
        oldest = self._batches[0].version if self._batches else self.version + 1
        return version >= oldest - 1, [batch for batch in self._batches if batch.version > version]

    def _take(self, record: Record) -> bool:
        try:
            message = record.message
        except SchemaError:
            return False
        columns = message.arrays
        if not isinstance(message.header, Lightcurves) or not len(columns.get("kind", ())):
            return False
        seen = columns["kind"] == Kind.BLIND
        rows = np.zeros(int(seen.sum()), ROW)
        for name, column in _COLUMNS.items():
            rows[name] = columns[column][seen]
        rows["key"] = np.ascontiguousarray(columns["object_id"][seen]).view("S16").ravel()
        self.version += 1
        unit = message.header.image.unit if message.header.image else None
        self._batches.append(Batch(self.version, message.header.t_pub_us, rows, unit))
        return True


def packed(rows: Rows) -> bytes:
    """Return rows as float32 (ra, dec, flux, kind), and behind them the 16 bytes of each id."""
    numbers = np.empty((len(rows), 4), "<f4")
    for i, name in enumerate(("ra_deg", "dec_deg", "flux", "kind")):
        numbers[:, i] = rows[name]
    raw = rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize) if len(rows) else np.zeros((0, 32), np.uint8)
    return numbers.tobytes() + raw[:, -16:].tobytes()
