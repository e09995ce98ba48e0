"""Whether the journals on this host reach back to the first record, so that the state follows from them alone."""

from __future__ import annotations

from pathlib import Path

from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig
from trapline.common.journal import PartitionReader

_INPUTS = ("images", "sources")
REBUILD = "make the state anew with `trapline associator rebuild`"


def snapshot_path(config: MeshConfig, replica: str) -> Path:
    """Return where an associator keeps its snapshot."""
    return config.data_directory / "snapshots" / f"associator-{replica}.snapshot"


def lost_beginnings(config: MeshConfig, replica: str) -> list[str]:
    """Return which of an associator's own records and inputs on this host are gone, in words."""
    journals = config.journal_directory
    inputs = sorted(path for name in _INPUTS for path in (journals / name).glob("*"))
    found = (_lost(path) for path in (journals / "lightcurves" / replica, *inputs) if path.is_dir())
    return [text for text in found if text]


def refuse_unknown_past(config: MeshConfig, replica: str) -> None:
    """Refuse to begin with an empty sky when there was another one.

    Raises
    ------
    ConfigError
        When there is no snapshot, though records were published, and the journals do not reach back. Known sources
        would found new objects.
    """
    told = config.journal_directory / "lightcurves" / replica
    if snapshot_path(config, replica).exists() or not told.is_dir() or not PartitionReader(told).next_seq:
        return
    if lost := lost_beginnings(config, replica):
        raise ConfigError(f"the snapshot of associator-{replica} is gone, and {'; '.join(lost)}: {REBUILD}")


def _lost(directory: Path) -> str | None:
    reader = PartitionReader(directory)
    if not reader.next_seq or reader.first_seq == 0:
        return None
    return f"{directory.parent.name}/{directory.name} begins at record {reader.first_seq}, the others are gone"
