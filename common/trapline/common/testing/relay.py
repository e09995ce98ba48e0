"""A real relay in a thread, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.relay.process import make_server
from trapline.common.relay.server import RelayServer


def mesh_config(directory: Path, **tables: Any) -> MeshConfig:
    """Return a configuration whose files are under a directory and whose relay takes any free port."""
    tables["mesh"] = {"data_directory": directory, **tables.get("mesh", {})}
    tables["relay"] = {"port": 0, **tables.get("relay", {})}
    return load_config(**tables)


@contextlib.contextmanager
def running_relay(config: MeshConfig) -> Iterator[RelayServer]:
    """Run the relay of a configuration while the block lasts."""
    server = make_server(config)
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.run, args=(stop, ready.set), name="relay")
    thread.start()
    try:
        if not ready.wait(10):
            raise TimeoutError("the relay did not start within 10 s")
        yield server
    finally:
        stop.set()
        thread.join()
