"""Who is there: the last heartbeat of each process on `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trapline.common.channel.interface import Channels
from trapline.common.channel.reader import ChannelReader
from trapline.common.channel.record import Record
from trapline.common.relay.requests import Cursor
from trapline.schemas.status import Status


async def newest_reports(connection: Channels, info: Mapping[str, Any]) -> list[Status]:
    """Return the last heartbeat of each process, by name, also of those that are no more; `info` is the relay's."""
    ends = [p for p in info["partitions"] if p["channel"] == "status" and p["next_seq"]]
    cursors = [Cursor("status", p["partition"], seq=p["next_seq"] - 1) for p in ends]
    reader = ChannelReader(connection, ("status",), positions=cursors)
    reports = {}
    if cursors:
        for item in await reader.read(0):
            if isinstance(item, Record) and isinstance(header := item.header, Status):
                reports[item.place.partition] = header
    return [report for _, report in sorted(reports.items())]
