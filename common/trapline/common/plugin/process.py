"""A plug-in as a process: the runtime of a service, around functions from a file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trapline.common.channel import Connection
from trapline.common.channel.reader import Start
from trapline.common.plugin.fold import PluginFold
from trapline.common.plugin.group import GroupHandler
from trapline.common.plugin.load import Plugin
from trapline.common.plugin.messages import description
from trapline.common.plugin.order import TakenLog
from trapline.common.plugin.recording import Recorder
from trapline.common.plugin.starts import first_places
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.fold import FoldRunner
from trapline.common.runtime.order import PartitionKey
from trapline.common.runtime.worker import Worker


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plug-in is run: where it begins the first time, and where what it reads and publishes is kept."""

    start: Start | None = None
    record: Path | None = None


def plugin_service(plugin: Plugin, options: RunOptions, connection: Connection | None = None) -> Service:
    """Return a plug-in as a service, for `run_process`; by default of the mesh that this host belongs to."""

    async def run(context: Context) -> None:
        with _recorder(plugin, options) as recorder:
            floors = await first_places(context, plugin, _kept(context, plugin.name), options.start)
            if floors is None:
                return
            _announce(context, plugin)
            if plugin.group:
                handler = GroupHandler(context, plugin, floors, recorder)
                await Worker(context, handler, plugin.reads).run()
            else:
                await _fold(context, plugin, floors, recorder)

    return Service(plugin.name, run, connection=connection)


async def _fold(context: Context, plugin: Plugin, floors: dict[PartitionKey, int], recorder: Recorder | None) -> None:
    log = TakenLog(_kept(context, context.name).with_suffix(".taken"))
    try:
        await FoldRunner(context, PluginFold(plugin, log, floors, recorder), pins=False).run()
    finally:
        log.close()


def _kept(context: Context, name: str) -> Path:
    return context.config.data_directory / "snapshots" / f"{name}.start"


def _announce(context: Context, plugin: Plugin) -> None:
    """Describe what the plug-in publishes on `schemas`, unless the same was said there before."""
    own = [
        d for o in plugin.outputs.values() if (d := description(o, plugin.name)).header.message.startswith("plugin.")
    ]
    writer = context.outputs.writer("schemas")
    if own and (writer.next_seq == 0 or _last_ids(writer.directory, len(own)) != [d.header.id for d in own]):
        context.outputs.append(own)


def _last_ids(directory: Path, count: int) -> list[bytes]:
    from trapline.common.journal import PartitionReader
    from trapline.schemas.message import decode_header

    reader = PartitionReader(directory)
    return [decode_header(frame).id for _, frame in reader.first_frames(reader.next_seq - count)]


@contextlib.contextmanager
def _recorder(plugin: Plugin, options: RunOptions) -> Iterator[Recorder | None]:
    if options.record is None:
        yield None
        return
    recorder = Recorder(options.record, plugin.name)
    try:
        yield recorder
    finally:
        recorder.close()
