"""Commands of operators: what they say on `commands` takes its place among the images.

A command changes what is computed from then on. In the journal of `images` it stands between the images before it and
after it, so that replay repeats it there. Replica 0 takes them up, each once, also after a restart.
"""

from __future__ import annotations

import asyncio
import math
from typing import cast

from trapline.common.channel import ChannelReader, Record, RelayRefusedError, RelayUnreachableError
from trapline.common.relay.requests import Cursor, Position, Read
from trapline.common.runtime.context import Backoff, Context
from trapline.image_ingest.feed import Feed
from trapline.schemas.columns import SchemaError
from trapline.schemas.images import Command, Images
from trapline.schemas.message import Message

CHANNEL = "commands"
_UNAVAILABLE = (RelayUnreachableError, RelayRefusedError)


class BadCommandError(ValueError):
    """A command that cannot be carried out. The text says what would be right."""


async def follow_commands(context: Context, feed: Feed) -> None:
    """Append what comes on `commands` to `images`, for ever."""
    backoff, reader = Backoff(), None
    while context.replica == "0":
        try:
            reader = reader or ChannelReader(context.connection, (CHANNEL,), positions=await _done(context))
            records = [item for item in await reader.read() if isinstance(item, Record)]
            for record in records:
                await _take(context, feed, record)
            if records:
                cursors = [Read(CHANNEL, c.partition, seq=c.seq, safe=c.seq) for c in reader.cursors.values()]
                await context.connection.position(Position(reader=context.name, reads=cursors))
            backoff.reset()
        except _UNAVAILABLE:
            # Without a relay there are no commands; images are appended all the same.
            await asyncio.sleep(backoff.next_s())


async def _done(context: Context) -> list[Cursor]:
    reads = await context.connection.positions(context.name)
    return [Cursor(CHANNEL, read.partition, read.seq) for read in reads if read.channel == CHANNEL]


async def _take(context: Context, feed: Feed, record: Record) -> None:
    try:
        message = record.message
        check(message.header.command if isinstance(message.header, Images) else None)
    except (SchemaError, BadCommandError) as error:
        context.counters["commands_refused"] += 1
        context.log.warning("refused a command", place=str(record.place), reason=str(error))
        return
    await feed.add_command(cast("Message[Images]", message))


def check(command: Command | None) -> None:
    """Look whether a command can be carried out.

    Raises
    ------
    BadCommandError
        When it is none, is unknown, or lacks what it needs.
    """
    if command is None:
        raise BadCommandError("the record is no command: its `command` should be set")
    if command.name not in ("monitor_add", "monitor_remove"):
        raise BadCommandError(f"unknown command {command.name!r}: known are monitor_add and monitor_remove")
    position = (command.ra_deg, command.dec_deg)
    if command.name == "monitor_add" and not all(v is not None and math.isfinite(v) for v in position):
        raise BadCommandError(f"monitor_add needs ra_deg and dec_deg, finite, not {position}")
