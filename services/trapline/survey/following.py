"""Reading what the mesh makes of the visits, and how far it is with storing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from trapline.common.channel import ChannelReader, RelayRefusedError, RelayUnreachableError
from trapline.common.runtime.context import Backoff, Context
from trapline.survey.ledger import Ledger

_POLL_S = 0.02
_FINDER, _STORE = "transient_finder", "database_dumper"


class Follower:
    """Feeds a ledger from the channels, for as long as the survey runs."""

    def __init__(self, context: Context, ledger: Ledger) -> None:
        self._context = context
        self._ledger = ledger
        self.caught_up = asyncio.Event()

    async def follow(self) -> None:
        """Read from the first record there is, for ever."""
        reader = ChannelReader(self._context.connection, ("lightcurves", "transients", "status"), start="first")
        backoff, loop = Backoff(), asyncio.get_running_loop()
        while True:
            try:
                items = await reader.read(0.5)
            except (RelayUnreachableError, RelayRefusedError) as error:
                self._context.trouble(error)
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            self._context.fine()
            for item in items:
                self._ledger.take(item, loop.time())
            if reader.caught_up:
                self.caught_up.set()

    async def matched(self, visit: int, images: set[bytes]) -> None:
        """Return when all images of a visit were folded."""
        await self._until(lambda: images <= self._ledger.visits[visit].images)

    async def forced(self) -> None:
        """Return when every forced value that was asked for has come."""
        await self._until(lambda: self._ledger.open_pairs <= 0)

    async def stored(self) -> None:
        """Return when all that came of what was read here is known and committed."""
        while True:
            try:
                info = await self._context.connection.info()
            except (RelayUnreachableError, RelayRefusedError) as error:
                self._context.trouble(error)
                await asyncio.sleep(1.0)
                continue
            if self._is_stored(info):
                return
            await asyncio.sleep(_POLL_S)

    def _is_stored(self, info: Mapping[str, Any]) -> bool:
        ends = self._ledger.ends
        folded = {key: end for key, end in ends.items() if key[0] == "lightcurves"}
        found = {(p["channel"], p["partition"]): p["next_seq"] for p in info["partitions"]}
        events = {key: end for key, end in found.items() if key[0] == "transients"}
        return (
            _behind(info, _FINDER, folded)
            and all(ends.get(key, 0) >= end for key, end in events.items())
            and _behind(info, _STORE, folded | events)
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._ledger.changed.clear()
            await self._ledger.changed.wait()


def _behind(info: Mapping[str, Any], service: str, ends: Mapping[tuple[str, str], int]) -> bool:
    """Return whether a service has done all before these ends."""
    at = {(r["channel"], r["partition"]): r["seq"] for r in info["readers"] if r["reader"].startswith(f"{service}-")}
    return all(at.get(key, 0) >= end for key, end in ends.items())
