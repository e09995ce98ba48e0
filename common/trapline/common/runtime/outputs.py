"""The journals that a service writes: one partition per channel, opened when first needed."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from itertools import groupby

import msgspec

from trapline.common.channel.ticks import Ticker
from trapline.common.config.mesh import MeshConfig
from trapline.common.journal import JournalWriter, now_us
from trapline.common.relay.requests import Tick
from trapline.schemas.header import Header, Place
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of


class Outputs:
    """Appends messages to this replica's partitions and tells the relay.

    Parameters
    ----------
    config
        Where journals are and how each channel is kept.
    service, replica
        Who writes: the producer of every message, and by default the partition.
    notify
        Tells the relay of new records; may be lossy.
    """

    def __init__(self, config: MeshConfig, service: str, replica: str, notify: Callable[[Tick], None]) -> None:
        # Only the services of the tree know each other's partitions: what others write has their name.
        self._in_tree = service in type(config).model_fields
        self._config = config
        self._producer = f"{service}/{replica}"
        self._fingerprint = config.fingerprint(service) if self._in_tree else None
        self._replica = replica
        self._ticker = Ticker(notify)
        self._writers: dict[str, JournalWriter] = {}

    def partition(self, channel: str) -> str:
        """Return the name of this replica's partition; on channels that others write too, with that of its service."""
        shared = channel in ("status", "dead_letters") or not self._in_tree
        return self._producer.replace("/", "-") if shared else self._replica

    def writer(self, channel: str) -> JournalWriter:
        """Return the journal of a channel, opened."""
        if channel not in self._writers:
            directory = self._config.journal_directory / channel / self.partition(channel)
            self._writers[channel] = JournalWriter(directory, **self._config.journal.writer_options(channel))
        return self._writers[channel]

    def append(self, messages: Iterable[Message[Header]]) -> list[Place]:
        """Append messages to the channels of their schemas, neighbours of a channel together, and return their places.

        Raises
        ------
        OSError
            When the disk is full: the messages of that channel were not appended.
        """
        places = []
        for channel, group in groupby(messages, key=lambda m: schema_of(type(m.header)).channel):
            frames = [encode(self._stamp(message)) for message in group]
            writer = self.writer(channel)
            seq = writer.append_many(frames)
            partition = self.partition(channel)
            places += [Place(channel, partition, writer.epoch, seq + i) for i in range(len(frames))]
            self._ticker.tell(channel, partition)
        return places

    async def sync(self) -> None:
        """Make everything appended so far outlive a power cut, on channels that wait for the disk."""
        for channel, writer in list(self._writers.items()):
            if self._config.journal.sync_s_of(channel) > 0 and writer.synced_seq < writer.next_seq:
                await asyncio.to_thread(writer.sync)

    def positions(self) -> dict[str, int]:
        """Return the next seq of each partition, by channel/partition."""
        return {f"{c}/{self.partition(c)}": w.next_seq for c, w in self._writers.items()}

    def close(self) -> None:
        """Close all journals, cleanly."""
        self._ticker.flush()
        for writer in self._writers.values():
            writer.close()

    def _stamp(self, message: Message[Header]) -> Message[Header]:
        header = msgspec.structs.replace(
            message.header, producer=self._producer, config=self._fingerprint, t_pub_us=now_us()
        )
        return Message(header, message.arrays)


def disk_full(error: OSError) -> bool:
    """Tell whether waiting for retention can mend an error."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
