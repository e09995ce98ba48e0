"""Where a plug-in began the first time: kept, so that ``latest`` means the same however often it is killed."""

from __future__ import annotations

import json
from pathlib import Path

from trapline.common.channel import ChannelReader, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.reader import Start
from trapline.common.journal.epochs import replace_file
from trapline.common.plugin.load import Plugin
from trapline.common.runtime.context import Backoff, Context
from trapline.common.runtime.order import PartitionKey


async def first_places(
    context: Context, plugin: Plugin, path: Path, start: Start | None
) -> dict[PartitionKey, int] | None:
    """Return the seq at which each partition begins: as noted, else found now and noted; None when told to drain.

    Parameters
    ----------
    start
        Instead of what the plug-in says, the first time.

    Notes
    -----
    A partition that appears later is read from its first record.
    """
    if (noted := _noted(path)) is not None:
        return noted
    backoff = Backoff()
    while not context.draining.is_set():
        try:
            found = await _discover(context, plugin, start)
        except (RelayUnreachableError, RelayRefusedError) as error:
            context.trouble(error)
            await context.pause(backoff.next_s())
            continue
        _note(path, found)
        return found
    return None


def _noted(path: Path) -> dict[PartitionKey, int] | None:
    if not path.exists():
        return None
    return {(channel, partition): seq for channel, partition, seq in json.loads(path.read_text())}


def _note(path: Path, found: dict[PartitionKey, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps([[*key, seq] for key, seq in sorted(found.items())]).encode())


async def _discover(context: Context, plugin: Plugin, start: Start | None) -> dict[PartitionKey, int]:
    found: dict[PartitionKey, int] = {}
    for channel in plugin.reads:
        begin = plugin.start(channel) if start is None else start
        reader = ChannelReader(context.connection, (channel,), start=begin)
        await reader.discover()
        if not reader.cursors:
            context.log.warning("nothing there yet, it is waited for", channel=channel)
        found |= {key: cursor.seq for key, cursor in reader.cursors.items()}
    return found
