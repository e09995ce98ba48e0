"""The backends that the contract tests hold to the same behaviour. One more joins by adding itself to `BACKENDS`.

A backend is a context manager that makes fresh, empty channels, and yields a function that returns a new client of
them, to be used as an async context manager.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trapline.common.channel import RelayConnection
from trapline.common.channel.memory import MemoryChannels
from trapline.common.channel.mesh import MeshConnection
from trapline.common.testing.relay import mesh_config, running_relay

LIMIT_BYTES = 256 << 10
"""what a partition may hold: a record of a quarter of it drops the oldest after a few"""

Connect = Callable[[], Any]


@contextlib.contextmanager
def segment(directory: Path, lease_s: float) -> Iterator[Connect]:
    """Journals on disk, through a real relay over TCP."""
    files = {
        "segment_bytes": LIMIT_BYTES // 4,
        "retention": {"limit_bytes": LIMIT_BYTES, "hard_limit_bytes": LIMIT_BYTES},
    }
    config = mesh_config(
        directory,
        relay={"lease_s": lease_s, "retention_s": 0.05, "poll_s": 0.02},
        journal={"min_free_bytes": 0, "channels": {"*": files}},
    )
    with running_relay(config) as relay:
        yield lambda: RelayConnection(relay.address)


@contextlib.contextmanager
def mesh(directory: Path, lease_s: float) -> Iterator[Connect]:
    """The relays of two hosts as one: that of this host has the records, the other none."""
    with segment(directory / "home", lease_s) as home, segment(directory / "away", lease_s) as away:
        yield lambda: MeshConnection(home(), [away()])


@contextlib.contextmanager
def memory(directory: Path, lease_s: float) -> Iterator[Connect]:
    """The memory of this process."""
    yield MemoryChannels(lease_s=lease_s, limit_bytes=LIMIT_BYTES).connect


BACKENDS = {"segment": segment, "memory": memory, "mesh": mesh}
