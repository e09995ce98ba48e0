"""The server process of a data directory, as `postmaster.pid` and the kernel tell."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PID_FILE = "postmaster.pid"
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What the first process of a server says of itself."""

    pid: int
    data: Path
    port: int
    socket_directory: Path
    status: str
    """starting, ready, stopping or standby; empty before it says"""

    def is_alive(self) -> bool:
        """Tell whether this process is still the server of its data directory, and not a later one with its number."""
        try:
            arguments = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return not Path("/proc/self").exists() and _exists(self.pid)
        # A dead process that nobody has waited for has no arguments.
        return arguments[1:3] == [b"-D", os.fsencode(self.data)]

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has gone."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return


def read_postmaster(data: Path) -> Postmaster | None:
    """Return what `postmaster.pid` says; None when there is none, or not enough of it yet."""
    try:
        lines = (data / PID_FILE).read_text().splitlines()
        return Postmaster(
            pid=int(lines[0]),
            data=Path(lines[1]),
            port=int(lines[3]),
            socket_directory=Path(lines[4]),
            status=lines[7].strip() if len(lines) > 7 else "",
        )
    except (FileNotFoundError, ValueError, IndexError):
        return None


def live_postmaster(data: Path) -> Postmaster | None:
    """Return the server of a data directory if it runs."""
    postmaster = read_postmaster(data)
    return postmaster if postmaster and postmaster.is_alive() else None


def disown_pid_file(data: Path) -> None:
    """Make a stale `postmaster.pid` harmless when its number now belongs to another process.

    The server refuses to start while a process of that number exists, whatever it is, except its own parent: so the
    number becomes ours. The file stays: it also names the shared memory that children of the dead server may still
    use, which the new server must check.
    """
    path = data / PID_FILE
    try:
        first, separator, rest = path.read_text().partition("\n")
    except FileNotFoundError:
        return
    if first.strip().isdecimal() and _exists(int(first)):
        with path.open("r+") as file:  # the same file, so owner and mode stay
            file.write(f"{os.getpid()}{separator}{rest}")
            file.truncate()


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until a condition holds; False when it did not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
