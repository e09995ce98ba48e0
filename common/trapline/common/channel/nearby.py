"""Records of this host by their places, from its journals themselves: what is here need not travel."""

from __future__ import annotations

import os
import re
from pathlib import Path

from trapline.common.channel.record import Record, unpack_slab
from trapline.common.journal.single import SingleReader
from trapline.schemas.header import Place

# Places come in messages: a name leads to no other directory.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Nearby:
    """Looks up single records in the journals of this host, by one thread at a time.

    Arrays of a record are views of the file: who reads a few rows of an image reads a few pages. Its space on the disk
    is kept until the last of them is gone.

    Parameters
    ----------
    root
        Directory of the journals.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partitions: dict[tuple[str, str], SingleReader] = {}

    def at(self, place: Place) -> Record | None:
        """Return the record at a place; None when it is not here: its relay knows where, or that it is gone."""
        key = (place.channel, place.partition)
        reader = self._partitions.get(key)
        if reader is None:
            directory = self._root / place.channel / place.partition
            if not all(map(_NAME.fullmatch, key)) or not os.access(directory, os.R_OK | os.X_OK):
                return None
            reader = self._partitions[key] = SingleReader(directory)
        slab = reader.read(place.seq, place.epoch)
        if slab is None:
            return None
        described = {"channel": place.channel, "partition": place.partition, "records": slab.rows}
        return next(unpack_slab(described, slab.data))
