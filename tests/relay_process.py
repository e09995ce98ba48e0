"""A relay as a process of its own, to be killed, stopped and started again on the same port and journals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from mesh_runs import environment
from trapline.common.journal import JournalWriter
from trapline.common.testing.relay import mesh_config
from waiting import stop_process, wait_for


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RelayProcess:
    """A relay on the journals under a directory; used as a context manager."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.config = mesh_config(directory)
        self._settings = {
            "TRAPLINE__MESH__DATA_DIRECTORY": str(directory),
            "TRAPLINE__RELAY__PORT": str(self.port),
            **settings,
        }

    def start(self) -> None:
        with (self.directory / "relay.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trapline.common.relay"],
                cwd=self.directory,
                env=environment(self._settings),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._listens, what="the relay")

    def _listens(self) -> bool:
        assert self.process.poll() is None, (self.directory / "relay.log").read_text()
        with socket.socket() as one:
            one.settimeout(1)
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        if number == signal.SIGSTOP:
            stop_process(self.process.pid)
        else:
            os.kill(self.process.pid, number)

    def writer(self, name: str, **options) -> JournalWriter:
        return JournalWriter(self.config.journal_directory / name, **options)

    def __enter__(self) -> RelayProcess:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
