"""image_ingest as a daemon: files first, then telescope sockets and watched directories for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import cast

from trapline.common.config import ConfigError
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.image_ingest.commands import follow_commands
from trapline.image_ingest.config import IngestConfig, StreamConfig, WatchConfig
from trapline.image_ingest.events import BrokenImage, Event
from trapline.image_ingest.feed import Feed
from trapline.image_ingest.files import NoInputError, find_files, in_order
from trapline.image_ingest.instruments import InstrumentError, Settings
from trapline.image_ingest.monitor import Allowance
from trapline.image_ingest.reading import describe_event, describe_fatal_file, describe_file
from trapline.image_ingest.seen import SeenFiles
from trapline.image_ingest.stream import StreamState, read_stream
from trapline.image_ingest.watching import Watch


async def run(context: Context) -> None:
    """Append what files, sockets and directories give; end when all of it was finite, or when told to drain."""
    config = cast("IngestConfig", context.section)
    try:
        feed = Feed(context, Settings.load(config, context.config.mesh.dataset))
        files = await asyncio.to_thread(lambda: in_order(find_files(config.paths), feed.settings))
    except (NoInputError, InstrumentError) as error:
        raise ConfigError(str(error)) from None
    await feed.remember()
    context.fine()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.watch_over(), name="overseer")
        commands = tasks.create_task(follow_commands(context, feed), name="commands")
        await _read_everything(context, feed, files)
        commands.cancel()
        await feed.close()
    if not context.draining.is_set():
        await feed.end()


async def _read_everything(context: Context, feed: Feed, files: list[Path]) -> None:
    config = feed.settings.config
    for path in files:
        if context.draining.is_set():
            return
        await feed.add(describe_file(path, feed.settings, history=feed.history), feed.monitor("files"))
    async with asyncio.TaskGroup() as tasks:
        for stream in config.streams:
            tasks.create_task(_follow(context, feed, stream), name=stream.address)
        if config.watch:
            tasks.create_task(_watch(context, feed), name="watch")
    if not files and not config.streams and not config.watch:
        context.log.warning("nothing to read", reason="[image_ingest] has neither paths nor streams nor watch")
        await context.draining.wait()


async def _follow(context: Context, feed: Feed, stream: StreamConfig) -> None:
    """Append the images of a socket until it ends, or the service shall drain."""
    state = StreamState()
    monitor = feed.monitor(stream.address, state)

    def say(text: str) -> None:
        context.log.info("stream", reason=text)

    loop, allowance = asyncio.get_running_loop(), Allowance()
    events = read_stream(stream, feed.settings.config, state, say)
    async with contextlib.aclosing(events):
        while (event := await _next(context, events)) is not None:
            if isinstance(event, BrokenImage) and not allowance.take(loop.time()):
                monitor.unrecorded += 1
                continue
            await feed.add_one(partial(describe_event, event, stream, feed.settings, feed.history), monitor)


async def _next(context: Context, events: AsyncGenerator[Event]) -> Event | None:
    """Return what comes next; None when the stream has ended, or the service shall drain."""
    arriving = asyncio.ensure_future(anext(events, None))
    draining = asyncio.ensure_future(context.draining.wait())
    try:
        await asyncio.wait({arriving, draining}, return_when=asyncio.FIRST_COMPLETED)
        return arriving.result() if arriving.done() else None
    finally:
        draining.cancel()
        arriving.cancel()
        await asyncio.gather(arriving, return_exceptions=True)


async def _watch(context: Context, feed: Feed) -> None:
    """Append the images of files that appear in watched directories, until the service shall drain."""
    config = feed.settings.config
    path = context.config.data_directory / "image_ingest" / f"{context.replica}.seen"
    with await asyncio.to_thread(SeenFiles, path) as seen:
        watches = [(entry, Watch(entry.path, config.watch_settle_s, seen)) for entry in config.watch]
        while not context.draining.is_set():
            for entry, watch in watches:
                await _look(context, feed, entry, watch)
            present = {path for _, watch in watches for path in watch.present}
            await asyncio.to_thread(seen.forget_all_but, present)
            await context.pause(config.watch_interval_s)
        # What is held back is noted as seen when it is in the journal.
        await feed.flush()


async def _look(context: Context, feed: Feed, entry: WatchConfig, watch: Watch) -> None:
    def say(text: str) -> None:
        context.log.warning("watch", reason=text)

    now_s = asyncio.get_running_loop().time()
    files = {file.path: file for file in await asyncio.to_thread(watch.look, now_s, say)}
    for path in await asyncio.to_thread(in_order, list(files), feed.settings):
        if context.draining.is_set():
            return
        deaths = watch.take(files[path])
        if deaths < context.config.runtime.max_attempts:
            messages = describe_file(path, feed.settings, instrument=entry.instrument, history=feed.history)
        else:
            messages = iter([describe_fatal_file(path, deaths, feed.settings)])
        await feed.add(messages, feed.monitor(entry.path), partial(watch.done, files[path]))


SERVICE = Service("image_ingest", run)
