"""The report that a service makes of itself, once a second, on `status`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import socket

from trapline.common.ids import fact_id
from trapline.common.journal import now_us
from trapline.common.runtime.context import Context
from trapline.schemas.message import Message
from trapline.schemas.status import STATUS_SCHEMA, Reading, Status

_HOST = socket.gethostname()
_VERSION = importlib.metadata.version("trapline")


def heartbeat(context: Context) -> Message[Status]:
    """Return the report of this moment."""
    t_us = now_us()
    reading = [
        Reading(channel=c, partition=p, seq=seq, lag_records=max(0, end - seq))
        for (c, p), (seq, end) in sorted(context.reading.items())
    ]
    header = Status(
        schema=STATUS_SCHEMA,
        id=fact_id(t_us, "status", context.name, _HOST, os.getpid(), t_us),
        dataset=context.config.mesh.dataset,
        service=context.service,
        replica=context.replica,
        host=_HOST,
        pid=os.getpid(),
        version=_VERSION,
        state=context.state,
        started_us=context.started_us,
        t_us=t_us,
        health_port=context.health_port,
        reading=reading,
        written=context.outputs.positions(),
        counters={name: float(value) for name, value in sorted(context.counters.items())},
        sources={name: dict(values) for name, values in sorted(context.sources.items())},
        busy_s=context.busy_s,
        last_error=context.last_error,
    )
    return Message(header)


async def report_for_ever(context: Context) -> None:
    """Append a report to `status` again and again."""
    while True:
        report_now(context)
        await asyncio.sleep(context.config.runtime.heartbeat_s)


def report_now(context: Context) -> None:
    """Append a report; no trouble with it may end a service or stop its reports."""
    try:
        context.outputs.append([heartbeat(context)])
    except Exception as error:  # noqa: BLE001  a full disk, another writer, whatever it is: the work goes on
        if not context.counters["heartbeats_dropped"]:
            context.log.warning("cannot report", reason=str(error))
        context.counters["heartbeats_dropped"] += 1
