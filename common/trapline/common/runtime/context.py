"""What a running service has: its configuration, its connection, its outputs, and what it reports."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from trapline.common.channel import Channels
from trapline.common.config import Section
from trapline.common.config.mesh import MeshConfig
from trapline.common.journal import now_us
from trapline.common.runtime.outputs import Outputs

State = Literal["starting", "running", "waiting", "draining", "stopped"]


@dataclass
class Context:
    """Handed to a service when it runs. One per process.

    Attributes
    ----------
    draining
        Set when the service shall finish what it has in hand and return.
    counters
        Totals since the start, for `status` and metrics. Every discard has its own.
    sources
        How each input from outside the mesh is, as numbers by name, for `status` and metrics.
    reading
        Next seq to be read, and the last seq known to exist, by (channel, partition).
    is_alive
        Whether work that is not done by the event loop goes on.
    """

    service: str
    replica: str
    config: MeshConfig
    connection: Channels
    outputs: Outputs
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    counters: Counter[str] = field(default_factory=Counter[str])
    sources: dict[str, dict[str, float]] = field(default_factory=dict)
    reading: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    state: State = "starting"
    started_us: int = field(default_factory=now_us)
    busy_s: float = 0.0
    last_error: str | None = None
    health_port: int | None = None
    is_alive: Callable[[], bool] = lambda: True

    @property
    def name(self) -> str:
        """Service and replica: ``source_extractor-1``."""
        return f"{self.service}-{self.replica}"

    @property
    def section(self) -> Section:
        """The service's own table of the configuration."""
        return self.config.service(self.service)

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """Logger of this service."""
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        return logger

    def trouble(self, error: object) -> None:
        """Report something that went wrong and is being dealt with: once per new text."""
        text = str(error).strip() or type(error).__name__
        self.state = "waiting"
        if text != self.last_error:
            self.log.warning("waiting", reason=text)
            self.last_error = text

    def fine(self) -> None:
        """Report that work goes on."""
        if self.state == "waiting" and self.last_error:
            self.log.info("going on", after=self.last_error)
            self.last_error = None
        self.state = "draining" if self.draining.is_set() else "running"

    async def pause(self, seconds: float) -> bool:
        """Wait, but not longer than until the service shall drain; return whether it shall."""
        try:
            async with asyncio.timeout(seconds):
                await self.draining.wait()
        except TimeoutError:
            return False
        return True


class Backoff:
    """Growing pauses between attempts, from a tenth of a second to a bound."""

    def __init__(self, longest_s: float = 5.0) -> None:
        self._longest_s = longest_s
        self._next_s = 0.1

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next_s = 0.1

    def next_s(self) -> float:
        """Return how long to wait now."""
        pause, self._next_s = self._next_s, min(self._next_s * 2, self._longest_s)
        return pause


class Stopwatch:
    """Adds the time spent in a block to the context's `busy_s`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._context.busy_s += time.perf_counter() - self._start
