"""The embedded server: a private PostgreSQL on a Unix socket, started where no other is given."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import quote

from trapline.common.postgres.account import server_account
from trapline.common.postgres.binaries import find_binaries, readable_copy
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.files import USER, create_files, major_of
from trapline.common.postgres.locks import take_lock, try_lock
from trapline.common.postgres.places import make_socket_directory, server_place, socket_directory
from trapline.common.postgres.postmaster import Postmaster, disown_pid_file, live_postmaster, wait_until

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "listen_addresses": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "max_connections": "50",
        "max_wal_size": "2GB",
        # Short statements only, on cores that the pipeline needs.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "log_checkpoints": "off",
    }
)
_SHARED_MEMORY_BUSY = "pre-existing shared memory block"


class Cluster:
    """A server of our own; a context manager: the first who enters starts it, the last who leaves stops it.

    That holds over processes, and for a server left over by a killed one: it is adopted.

    Parameters
    ----------
    directory
        For its files. Where the server cannot reach it, `note` says where they are instead.
    config
        Which programs, and how long to wait.
    settings
        Of the server, over `SETTINGS`.

    Raises
    ------
    DatabaseError
        When there are no programs, or the files are of another major version.
    """

    def __init__(
        self, directory: Path, config: DatabaseConfig | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        config = config or DatabaseConfig()
        self.account = server_account(directory / "data")
        place = server_place(directory, self.account)
        self.directory, self.note = place.directory, place.note
        self.account = server_account(self.data)
        self.binaries = find_binaries(config.binaries, major_of(self.data))
        self._settings = {**SETTINGS, **(settings or {})}
        self._start_timeout_s = config.start_timeout_s
        self._socket_directory = socket_directory(self.directory)
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        # While the last user stops the server, this waits.
        self._use = take_lock(self.directory / "users", self._start_timeout_s, shared=True)
        try:
            self.start()
        except BaseException:
            os.close(self._use)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # No one else uses it if all of the lock can be ours.
            if try_lock(self._use):
                self.stop()
        finally:
            os.close(self._use)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What the server has to say."""
        return self.directory / "server.log"

    def dsn(self, database: str = USER) -> str:
        """Return the address of a database of this server."""
        return f"postgresql://{USER}@/{quote(database)}?host={quote(str(self._socket_directory), safe='')}"

    def is_running(self) -> bool:
        """Tell whether the server is there."""
        if self._process is not None:
            self._process.poll()  # or a dead child stays a zombie
        return live_postmaster(self.data) is not None

    def start(self) -> bool:
        """Return when the server takes connections: True if it was started, False if one ran already.

        Raises
        ------
        DatabaseError
            When it cannot start, with the end of its log.
        """
        with self._alone():
            self._refuse_other_version()
            found = live_postmaster(self.data)
            if found and found.status == "stopping":
                found = self._after_its_end(found)
            if found:
                self._socket_directory, self._process = found.socket_directory, None
            else:
                self.binaries = readable_copy(self.binaries, self.account)
                if major_of(self.data) is None:
                    durable = self._settings.get("fsync") != "off"
                    create_files(self.data, self.binaries, self.account, self._start_timeout_s, durable=durable)
                self._launch()
            self._wait_until_ready()
        return found is None

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop the server: its clients are cut off, what is committed stays. After `timeout_s` it is ended by force."""
        postmaster = live_postmaster(self.data)
        if postmaster:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                postmaster.send(number)
                if wait_until(lambda: not self._is_alive(postmaster), timeout_s):
                    break
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._socket_directory.parent != self.directory:
            with suppress(OSError):  # not empty, or gone
                self._socket_directory.rmdir()

    def _after_its_end(self, postmaster: Postmaster) -> Postmaster | None:
        wait_until(lambda: not self._is_alive(postmaster), self._start_timeout_s)
        return live_postmaster(self.data)

    def _is_alive(self, postmaster: Postmaster) -> bool:
        if self._process is not None:
            self._process.poll()
        return postmaster.is_alive()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the directory: of two that start a server, the second finds that of the first."""
        descriptor = take_lock(self.directory / "lock", self._start_timeout_s)
        try:
            yield
        finally:
            os.close(descriptor)

    def _refuse_other_version(self) -> None:
        major = major_of(self.data)
        if major is not None and major != self.binaries.major:
            raise DatabaseError(
                f"the files in {self.data} are of PostgreSQL {major}, and the {self.binaries.origin}'s programs are "
                f"{self.binaries.major}: install PostgreSQL {major} and set database.binaries = 'auto', or keep this "
                f"store as it is and start a new one with another database.directory"
            )

    def _launch(self) -> None:
        if self._process is not None:
            self._process.wait()  # our last one died: while nobody has waited for it, its number is taken
        self._socket_directory = socket_directory(self.directory)
        make_socket_directory(self._socket_directory, self.account)
        disown_pid_file(self.data)
        settings = {**self._settings, "unix_socket_directories": str(self._socket_directory)}
        arguments = [str(self.binaries.program("postgres")), "-D", str(self.data)]
        arguments += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + self._start_timeout_s
        while not self._try_launch(arguments):
            if time.monotonic() > deadline:
                raise DatabaseError(f"children of a killed server of {self.data} do not end: see {self.log}")

    def _try_launch(self, arguments: list[str]) -> bool:
        """Start the server; False when the last one's children still hold its memory."""
        log = os.open(self.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            said = os.fstat(log).st_size
            self._process = process = self.account.launch(arguments, log)
        finally:
            os.close(log)
        wait_until(lambda: process.poll() is not None or live_postmaster(self.data) is not None, self._start_timeout_s)
        if process.poll() is None:
            return True
        with self.log.open(errors="replace") as file:
            file.seek(said)
            text = file.read()
        if _SHARED_MEMORY_BUSY in text:
            return False
        raise DatabaseError(f"PostgreSQL did not start in {self.data}: {_last_lines(text)}")

    def _wait_until_ready(self) -> None:
        def settled() -> bool:
            postmaster = live_postmaster(self.data)
            gone = not postmaster or (self._process is not None and self._process.poll() is not None)
            return gone or (postmaster is not None and postmaster.status == "ready")

        in_time = wait_until(settled, self._start_timeout_s)
        if not in_time or not self.is_running():
            text = self.log.read_text(errors="replace") if self.log.exists() else ""
            state = "is gone" if in_time else f"is not ready after {self._start_timeout_s:g} s"
            raise DatabaseError(f"PostgreSQL in {self.data} {state}: {_last_lines(text)}")


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "it said nothing"
