"""Keeping what a plug-in read and published, as journals that `--replay` and every other command can read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trapline.common.channel import Record
from trapline.common.journal import JournalWriter
from trapline.common.plugin.stepping import count
from trapline.common.relay.publishing import RemoteWriters
from trapline.common.relay.requests import RequestError
from trapline.schemas.header import Header
from trapline.schemas.message import Message, encode
from trapline.schemas.registry import schema_of


class Recorder:
    """Appends records to journals under a directory, each once.

    Parameters
    ----------
    directory
        A data directory of its own: ``DIRECTORY/journal/CHANNEL/PARTITION``.
    name
        Of the plug-in: the partition of its outputs.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._name = name
        self._writers = RemoteWriters(directory / "journal", lambda _, path: JournalWriter(path))

    def keep(self, record: Record, messages: Iterable[Message[Header]]) -> None:
        """Keep an input and what was made of it. What has no id cannot be kept, and is counted."""
        try:
            self._writers.append(record.place.channel, record.place.partition, record.frames)
            for message in messages:
                self._writers.append(schema_of(type(message.header)).channel, self._name, encode(message))
        except RequestError:
            count("not_recorded")

    def close(self) -> None:
        """Close the journals."""
        self._writers.close()
