"""One child process: started, restarted when it dies, stopped in an orderly way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from trapline.common.runtime.context import Backoff
from trapline.common.runtime.daemon import EXIT_CONFIG
from trapline.common.runtime.systemd import VARIABLES

State = Literal["starting", "up", "restarting", "done", "failed", "stopped"]

_STEADY_S = 30.0  # after this long a process has proved itself: its next death is a new story


class ManagedProcess:
    """A child that shall live until it is done or told to stop.

    It runs in a session of its own, so that Ctrl-C reaches the supervisor alone, and it ends when the supervisor dies,
    since its standard input closes then. Its log goes to a file.

    Parameters
    ----------
    name
        For people, and for the log file.
    module
        Python module to run.
    arguments, environment
        Passed on.
    log_directory
        Where ``NAME.log`` is written.
    for_ever
        Start it again whatever it ended with, after pauses that may grow to this many seconds; None for a process that
        has said its last word when it is done, or when its configuration is wrong.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str],
        log_directory: Path,
        for_ever: float | None = None,
    ) -> None:
        self.name = name
        self.state: State = "stopped"
        self.restarts = 0
        self.failures = 0
        """how often in a row it ended itself, and soon, with an error"""
        self.deaths = 0
        """how often in a row it ended soon, however it did"""
        self._for_ever = for_ever
        self.log_path = log_directory / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments, "--supervised"]
        inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self._environment = {**inherited, **environment}
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id; None when it does not run."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Start, and keep alive from now on."""
        self._stopping = False
        self.state = "starting"
        self._watcher = asyncio.create_task(self._keep_alive(), name=f"keep {self.name}")

    async def stop(self, patience_s: float) -> None:
        """Ask it to drain; end it when it takes longer than `patience_s`."""
        self._stopping = True
        self.signal(signal.SIGTERM)
        if self._watcher:
            done, _ = await asyncio.wait({self._watcher}, timeout=patience_s)
            if not done:
                self.signal(signal.SIGKILL)
                await self._watcher

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def finished(self) -> None:
        """Return when it is done, failed or stopped, and will not be restarted."""
        if self._watcher:
            await asyncio.shield(self._watcher)

    def last_words(self) -> str:
        """Return in one line what it logged last: the reason, if it gave one."""
        try:
            lines = self.log_path.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log"
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                return line
            if isinstance(entry, dict) and ("reason" in entry or "exception" in entry):
                return str(entry.get("reason") or entry["exception"].strip().splitlines()[-1])
        return lines[-1] if lines else "it logged nothing"

    async def _keep_alive(self) -> None:
        backoff = Backoff(self._for_ever) if self._for_ever else Backoff()
        loop = asyncio.get_running_loop()
        code = 0
        while not self._stopping:
            began = loop.time()
            code = await self._run_once()
            if self._stopping or (code in (0, EXIT_CONFIG) and self._for_ever is None):
                break
            steady = loop.time() - began > _STEADY_S
            # A death by a signal says nothing of its work.
            self.failures = 0 if steady or code < 0 else self.failures + 1
            self.deaths = 1 if steady else self.deaths + 1
            if steady:
                backoff.reset()
            self.restarts += 1
            self.state = "restarting"
            await asyncio.sleep(backoff.next_s())
        self.state = "stopped" if self._stopping else "done" if code == 0 else "failed"

    async def _run_once(self) -> int:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self.state = "up"
        if self._stopping:
            self.signal(signal.SIGTERM)
        return await self._process.wait()
