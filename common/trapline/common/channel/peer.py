"""One relay among those of a mesh: used while it answers, and looked for in the background while it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from trapline.common.channel.interface import Connection, RelayRefusedError, RelayUnreachableError

Key = tuple[str, str]
"""(channel, partition)"""

_SHORTEST_S, _LONGEST_S = 0.1, 2.0  # between two looks whether it is there again
_log = structlog.get_logger()


class Peer:
    """A relay of the mesh, and what is known of it.

    Parameters
    ----------
    connection
        To the relay; it is open.
    changed
        Called when its list of partitions is another, or when it is there again.

    Attributes
    ----------
    trouble
        Why it cannot be used now; None when it can.
    last
        Its last answer to `info`; empty before the first.
    """

    def __init__(self, connection: Connection, changed: Callable[[], None]) -> None:
        self.connection = connection
        self.trouble: str | None = None
        self.last: dict[str, Any] = {}
        self._changed = changed
        self._looking: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Where the relay is."""
        return self.connection.address

    @property
    def catalogue(self) -> int | None:
        """Version of its list of partitions that is known."""
        return self.last.get("catalogue")

    def partitions(self) -> set[Key]:
        """Return the partitions that it is known to have."""
        return {(p["channel"], p["partition"]) for p in self.last.get("partitions", ())}

    async def look(self) -> None:
        """Ask what it has; when it does not answer, what it had is still known."""
        try:
            info = await self.connection.info()
        except (RelayUnreachableError, RelayRefusedError) as error:
            self.lose(error)
        else:
            self._take(info)

    def lose(self, error: Exception) -> None:
        """Do without it from now on, and look for it in the background."""
        if self.trouble is None:
            self.trouble = str(error)
            _log.warning("going on without a relay", relay=self.address, reason=self.trouble)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_until_there(), name=f"look for {self.address}")

    async def close(self) -> None:
        """Look for it no more."""
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_until_there(self) -> None:
        pause = _SHORTEST_S
        while self.trouble is not None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_S)
            try:
                self._take(await self.connection.info())
            except (RelayUnreachableError, RelayRefusedError) as error:
                self.trouble = str(error)

    def _take(self, info: dict[str, Any]) -> None:
        had, back = self.partitions() if self.last else None, self.trouble is not None
        self.last, self.trouble = info, None
        if back:
            _log.info("the relay is there again", relay=self.address)
        if back or had != self.partitions():
            self._changed()
