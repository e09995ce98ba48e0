"""outlets as a daemon: one sink per outlet, each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from trapline.common.channel import RelayRefusedError, RelayUnreachableError
from trapline.common.config import ConfigError
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.sink import Sink
from trapline.outlets.config import CommandOutlet, OutletsConfig, VoEventOutlet, WebhookOutlet
from trapline.outlets.delivery import Deliver, OutletStore, read_positions
from trapline.outlets.hooks import command, webhook

_CHANNEL = "transients"
_GRACE_S = 2.0  # for a delivery that is under way


def deliverer(outlet: VoEventOutlet | WebhookOutlet | CommandOutlet) -> Deliver:
    """Return what takes the events of an outlet: another type of outlet is one more case here."""
    match outlet:
        case VoEventOutlet():
            # Only here is lxml needed.
            from trapline.outlets.voevent import voevent_files

            return voevent_files(outlet)
        case WebhookOutlet():
            return webhook(outlet)
        case CommandOutlet():
            return command(outlet)


async def run(context: Context) -> None:
    """Deliver events until told to drain. An outlet that waits for its other side holds up no other."""
    settings = cast("OutletsConfig", context.section)
    if not settings.to:
        raise ConfigError("outlets.to is empty: name an outlet, or leave outlets.replicas at 0")
    async with asyncio.TaskGroup() as group:
        for name, outlet in settings.to.items():
            group.create_task(_run_outlet(context, name, outlet), name=f"outlet {name}")


async def _run_outlet(context: Context, name: str, outlet: VoEventOutlet | WebhookOutlet | CommandOutlet) -> None:
    try:
        deliver = deliverer(outlet)
    except ImportError as error:
        raise ConfigError(f"outlets.to.{name} takes {error.name}: pip install 'trapline[outlets]'") from None
    path = context.config.data_directory / "outlets" / f"{name}.position"
    first = await _ends(context) if outlet.start == "latest" and read_positions(path) is None else []
    store = OutletStore(context, name, deliver, outlet.filters, path, first)
    reader = f"{context.service}-{name}"
    sink = Sink(context, store, reads=(_CHANNEL,), reads_headers=(), flush_s=0.0, flush_records=100, reader=reader)
    work, draining = asyncio.create_task(sink.run()), asyncio.create_task(context.draining.wait())
    try:
        await asyncio.wait({work, draining}, return_when=asyncio.FIRST_COMPLETED)
        # Who waits for the other side is not waited for: what was not delivered is offered after the next start.
        await asyncio.wait({work}, timeout=_GRACE_S)
        if work.done():
            work.result()
    finally:
        for task in (work, draining):
            task.cancel()
        await asyncio.gather(work, draining, return_exceptions=True)


async def _ends(context: Context) -> Sequence[Cursor]:
    """Return the ends of the partitions that are there now; one that comes later is read from its first record."""
    backoff = Backoff()
    while True:
        try:
            info = await context.connection.info()
            return [
                Cursor(_CHANNEL, p["partition"], seq=p["next_seq"])
                for p in info["partitions"]
                if p["channel"] == _CHANNEL
            ]
        except (RelayUnreachableError, RelayRefusedError) as error:
            context.trouble(error)
            await asyncio.sleep(backoff.next_s())


SERVICE = Service("outlets", run)
