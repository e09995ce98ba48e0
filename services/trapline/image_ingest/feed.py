"""The way of an image from its source to the journal `images`: described, told from its repetitions, appended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from trapline.common.ids import record_id
from trapline.common.journal import PartitionReader, now_us
from trapline.common.runtime.context import Context, Stopwatch
from trapline.common.runtime.publishing import publish
from trapline.image_ingest.instruments import Settings
from trapline.image_ingest.monitor import SourceMonitor
from trapline.image_ingest.quality import RmsHistory
from trapline.image_ingest.reorder import Reorder
from trapline.image_ingest.stream import StreamState
from trapline.schemas.images import SCHEMA, Images
from trapline.schemas.message import Message, decode_header

_REMEMBERED = 100_000
_REPORT_S = 1.0


@dataclass(slots=True)
class _Batch:
    """The images of one file or one event: `done` is called when the last of them is in the journal."""

    monitor: SourceMonitor
    done: Callable[[], None]
    open: int = 1

    def close_one(self) -> None:
        self.open -= 1
        if not self.open:
            self.done()


class Feed:
    """Appends images to this replica's partition of `images`, each once.

    What was appended before a restart is read back from the journal: the ids, so that files read again are not
    announced again, and the noise, with which new images are compared.
    """

    def __init__(self, context: Context, settings: Settings) -> None:
        config = settings.config
        self.settings = settings
        self.history = RmsHistory(config.quality.rms_history)
        self._context = context
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._monitors: dict[str, SourceMonitor] = {}
        self._held: Reorder[tuple[Message[Images], _Batch]] = Reorder(config.reorder_window_s, config.reorder_max_bytes)
        self._over = asyncio.Event()
        # One image after the other goes into the journal, whichever task brings it.
        self._appending = asyncio.Lock()

    async def remember(self) -> None:
        """Read back what was appended before."""
        for header in await asyncio.to_thread(self._own_headers):
            self._note(header)

    def monitor(self, name: str, stream: StreamState | None = None) -> SourceMonitor:
        """Return the monitor of a source, made when it is new."""
        return self._monitors.setdefault(name, SourceMonitor(name, stream))

    async def add(
        self, messages: Iterator[Message[Images]], monitor: SourceMonitor, done: Callable[[], None] = lambda: None
    ) -> None:
        """Describe images in a thread, one after the other, and append those that are new, perhaps a while later.

        `done` is called when all of them are in the journal.
        """
        batch = _Batch(monitor, done)
        while True:
            with Stopwatch(self._context):
                message = await asyncio.to_thread(next, messages, None)
            if message is None:
                break
            batch.open += 1
            await self._take(message, batch)
        batch.close_one()

    async def add_one(self, describe: Callable[[], Message[Images]], monitor: SourceMonitor) -> None:
        """Describe one image in a thread, and append it if it is new, perhaps a while later."""
        with Stopwatch(self._context):
            message = await asyncio.to_thread(describe)
        await self._take(message, _Batch(monitor, lambda: None))

    async def add_command(self, message: Message[Images]) -> None:
        """Append a command, unless it was appended before."""
        async with self._appending:
            if message.header.id not in self._known:
                await publish(self._context, [message])
                self._note(message.header)
                self._context.counters["commands"] += 1

    async def flush(self) -> None:
        """Append what is held back."""
        async with self._appending:
            await self._append_all(self._held.flush())

    async def watch_over(self) -> None:
        """Append what has been held back long enough, and report how the sources are, until `close`."""
        loop = asyncio.get_running_loop()
        while not self._over.is_set():
            async with self._appending:
                await self._append_all(self._held.due(loop.time()))
            self.report()
            due_s = self._held.next_due_s()
            pause_s = _REPORT_S if due_s is None else min(_REPORT_S, max(0.01, due_s - loop.time()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._over.wait()

    async def close(self) -> None:
        """Append what is held back, and report for the last time."""
        self._over.set()
        await self.flush()
        self.report()

    def report(self) -> None:
        """Put how the sources are where `status` and metrics find it; say which of them fell silent."""
        now = now_us()
        for monitor in self._monitors.values():
            # Files and directories come to an end; a telescope's socket does not.
            if monitor.stream is not None and monitor.fell_silent(now):
                self._context.log.warning("silent", source=monitor.name, last_us=monitor.last_us)
            self._context.sources[monitor.name] = monitor.report(now)
        self._context.counters["images_held"] = len(self._held)
        self._context.counters["images_hurried"] = self._held.hurried

    async def end(self) -> None:
        """Say that a finite source has ended."""
        writer = self._context.outputs.writer("images")
        end = Images(
            schema=SCHEMA,
            id=record_id(0, SCHEMA, f"end of {self._context.replica} at {writer.next_seq}".encode()),
            dataset=self.settings.dataset,
            end_of_stream=True,
        )
        await publish(self._context, [Message(end)])

    async def _take(self, message: Message[Images], batch: _Batch) -> None:
        async with self._appending:
            if not self._held.window_s:
                await self._append(message, batch)
                return
            image, size = message.header.image, sum(array.nbytes for array in message.arrays.values())
            start_us = image.t_start_us if image is not None and image.t_start_us is not None else now_us()
            now_s = asyncio.get_running_loop().time()
            await self._append_all(self._held.push((message, batch), start_us, size, now_s))

    async def _append_all(self, items: list[tuple[Message[Images], _Batch]]) -> None:
        for message, batch in items:
            await self._append(message, batch)

    async def _append(self, message: Message[Images], batch: _Batch) -> None:
        counters, image = self._context.counters, message.header.image
        counters["images_received"] += 1
        if image is None or image.id in self._known:
            counters["images_repeated"] += 1
            batch.monitor.note_repeated()
        else:
            await publish(self._context, [message])
            self._note(message.header)
            batch.monitor.note(image, now_us())
            if image.quality.rejected:
                counters["images_rejected"] += 1
                for check in {reason.check for reason in image.quality.reasons}:
                    counters[f"rejected_{check}"] += 1
                text = "; ".join(reason.text or reason.check for reason in image.quality.reasons)
                self._context.log.warning("rejected", origin=image.origin, reason=text)
        batch.close_one()

    def _note(self, header: Images) -> None:
        if header.command is not None:
            self._known[header.id] = None
        if header.image is None:
            return
        self._known[header.image.id] = None
        self.history.add(header.image)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _own_headers(self) -> list[Images]:
        reader = PartitionReader(self._context.outputs.writer("images").directory)
        frames = reader.first_frames(reader.next_seq - _REMEMBERED)
        return [cast("Images", decode_header(frame)) for _, frame in frames]
