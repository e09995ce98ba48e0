"""The partitions of a host: found on its disk, read through their maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trapline.common.journal import PartitionReader
from trapline.common.relay.partitions import Key


class Catalogue:
    """Every partition under ``ROOT/CHANNEL/PARTITION``. Partitions may appear and go at any time.

    `version` grows when the list changes, so that a waiting reader can be told.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.version = 0
        self._partitions: dict[Key, PartitionReader] = {}
        self._sealed = 0
        root.mkdir(parents=True, exist_ok=True)
        self.discover()

    def discover(self) -> bool:
        """Look for partitions that are new, and for those that are gone; return whether there are any."""
        found = dict(self._directories())
        gone = self._partitions.keys() - found.keys()
        for key in gone:
            del self._partitions[key]
        new = {key: reader for key in sorted(found.keys() - self._partitions.keys()) if (reader := _open(found[key]))}
        self._partitions |= new
        self.version += bool(new or gone)
        return bool(new or gone)

    def refresh(self) -> set[Key]:
        """Take notice of new records in known partitions, and return which have some."""
        return {key for key in list(self._partitions) if self._refresh(key)}

    def refresh_one(self, key: Key) -> bool:
        """Take notice of new records in one partition, known or new."""
        return self._refresh(key) if key in self._partitions else self.discover()

    def _refresh(self, key: Key) -> bool:
        reader = self._partitions[key]
        before, segments = reader.next_seq, reader.segment_count
        try:
            found = reader.rescan()
            reader.refresh()
        except (OSError, ValueError):
            # Gone while it was looked at, or closed to us: `discover` decides which. What was found is news.
            found = False
        self._sealed += reader.segment_count > segments
        return found or reader.next_seq > before

    def take_sealed(self) -> int:
        """Return how often a segment was seen to be complete since this was last asked."""
        sealed, self._sealed = self._sealed, 0
        return sealed

    def _directories(self) -> Iterator[tuple[Key, Path]]:
        for channel in _directories_in(self.root):
            for partition in _directories_in(channel):
                yield (channel.name, partition.name), partition

    def get(self, channel: str, partition: str) -> PartitionReader | None:
        """Return the reader of a partition; None when there is none."""
        return self._partitions.get((channel, partition))

    def of_channel(self, channel: str) -> list[tuple[str, PartitionReader]]:
        """Return (name, reader) of a channel's partitions, by name."""
        return sorted((k[1], r) for k, r in self._partitions.items() if k[0] == channel)

    def __iter__(self) -> Iterator[tuple[Key, PartitionReader]]:
        return iter(sorted(self._partitions.items(), key=lambda item: item[0]))

    def channels(self) -> list[str]:
        """Return the names of the channels that have a partition."""
        return sorted({channel for channel, _ in self._partitions})


def _directories_in(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.is_dir()]
    except OSError:
        # Removed meanwhile, or closed to us: nothing of it can be served.
        return []


def _open(directory: Path) -> PartitionReader | None:
    """Return a reader; None when the directory cannot be read now, which is tried again."""
    try:
        return PartitionReader(directory)
    except (OSError, ValueError):
        return None
