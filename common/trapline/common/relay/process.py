"""The relay as a process: the server in a thread, signals and health around it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from trapline.common.config.mesh import MeshConfig
from trapline.common.journal import JournalWriter
from trapline.common.relay.catalogue import Catalogue
from trapline.common.relay.config import Retention
from trapline.common.relay.core import RelayCore
from trapline.common.relay.memory import RelayMemory
from trapline.common.relay.publishing import RemoteWriters
from trapline.common.relay.retention import Keeper
from trapline.common.relay.server import RelayServer
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.security.gate import Gate
from trapline.common.security.identity import load_identity
from trapline.common.security.trust import TrustList

ADDRESS_FILE = "relay.address"
_RESERVE_BYTES = 1 << 20
_STUCK_S = 10.0  # without a turn of its loop a relay serves nobody


def make_server(config: MeshConfig) -> RelayServer:
    """Return a server of the journals of this host, bound to its addresses.

    Raises
    ------
    OSError
        When the port is in use, or another relay serves this data directory.
    """

    def make_writer(channel: str, directory: Path) -> JournalWriter:
        return JournalWriter(directory, **config.journal.writer_options(channel))

    directory = config.data_directory
    directory.mkdir(parents=True, exist_ok=True)
    lock = _lock(directory)
    try:
        memory = _open_memory(directory)
        trusted = TrustList(config.keys_directory / "trusted") if config.relay_needs_keys else None
        catalogue = Catalogue(config.journal_directory)
        writers = RemoteWriters(config.journal_directory, make_writer)
        core = RelayCore(
            catalogue, writers, memory, lease_s=config.relay.lease_s, trusted=trusted, facts=lambda: _disk(config)
        )
        keeper = Keeper(
            catalogue,
            core.groups,
            core.readers,
            retention_rules(config),
            free_bytes=lambda: shutil.disk_usage(config.journal_directory).free,
            min_free_bytes=config.journal.min_free_bytes,
        )
        gate = Gate(load_identity(config), trusted, core.counters) if trusted else None
        server = RelayServer(core, config.relay, ipc=config.ipc_path, keeper=keeper, gate=gate)
    except BaseException:
        os.close(lock)
        raise
    server.on_close(lambda: os.close(lock))
    (directory / ADDRESS_FILE).write_text(f"{server.address}\n")
    return server


def _disk(config: MeshConfig) -> dict[str, Any]:
    disk = shutil.disk_usage(config.data_directory)
    return {"host": config.mesh.host or socket.gethostname(), "disk_bytes": disk.total, "disk_free_bytes": disk.free}


def _open_memory(directory: Path) -> RelayMemory:
    """Open the memory, on a full disk with the room that was set aside for this: else nobody would free any."""
    path, reserve = directory / "relay.sqlite", directory / "relay.reserve"
    try:
        memory = RelayMemory(path)
    except sqlite3.OperationalError as error:
        if not reserve.exists():
            raise OSError(errno.ENOSPC, f"cannot open {path} ({error}): free some space on its disk") from None
        reserve.unlink()
        return RelayMemory(path)
    if not reserve.exists():
        with contextlib.suppress(OSError), reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
    return memory


def _lock(directory: Path) -> int:
    """Lock a data directory for one relay: a second one would take its socket away without a word."""
    descriptor = os.open(directory / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(
            errno.EADDRINUSE, f"another mesh runs on {directory}; stop it, or choose another data directory"
        ) from None
    return descriptor


def retention_rules(config: MeshConfig) -> dict[str, Retention]:
    """Return how long each channel is kept: `images` by a share of the disk unless the configuration says otherwise."""
    names = {"images", "status", "dead_letters", "schemas", *config.journal.channels} - {"*"}
    rules = {name: config.journal.of(name).retention for name in names}
    if rules["images"] == Retention():
        share = int(shutil.disk_usage(config.data_directory).total * config.journal.images_disk_fraction)
        rules["images"] = Retention(limit_bytes=share, hard_limit_bytes=2 * share)
    return rules | {"*": config.journal.of("*").retention}


async def run(context: Context) -> None:
    """Serve until told to drain."""
    server = make_server(context.config)
    context.counters = server.core.counters
    context.is_alive = lambda: time.monotonic() - server.turned_at < _STUCK_S
    stop = threading.Event()
    context.log.info("serving", address=server.address, journals=str(context.config.journal_directory))
    serving = asyncio.create_task(asyncio.to_thread(server.run, stop))
    context.fine()
    draining = asyncio.create_task(context.draining.wait())
    await asyncio.wait({serving, draining}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await serving


RELAY = Service("relay", run, alone=True)


def relay_address(config: MeshConfig) -> str:
    """Return where this host's relay answers: its socket when that is there, else its TCP address."""
    if config.relay_needs_keys or Path(config.ipc_path).exists():
        return f"ipc://{config.ipc_path}"
    return f"tcp://{config.relay.host}:{config.relay.port}"
