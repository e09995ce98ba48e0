"""A plug-in on a machine without a relay: it reads through one far away, and what it publishes is carried there.

It appends to journals of its own, as on the relay's host, and these are the truth about what it has said; so all that
holds there holds here, also while the relay is away and however often the plug-in is killed. What is in the journals is
appended at the relay in order: a record that was carried twice counts there once, by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Self

import structlog

from trapline.common.channel import RelayConnection, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.interface import Notice
from trapline.common.config.errors import ConfigError
from trapline.common.config.mesh import RELAY_ADDRESS, MeshConfig
from trapline.common.journal import PartitionReader, now_us
from trapline.common.journal.epochs import replace_file
from trapline.common.relay.requests import Tick
from trapline.common.runtime.context import Backoff
from trapline.common.security.identity import client_keys, given_keys
from trapline.schemas.message import Buffer

_LOOK_S = 1.0
_LAST_S = 3.0  # for what is left when the plug-in ends: the rest is carried the next time
_KEPT_US = 3_600_000_000  # what was carried is kept for an hour: the fold makes sure of what it said since its snapshot
_MAX_BYTES = 1 << 20
_log = structlog.get_logger()


def far_config(config: MeshConfig, address: str) -> MeshConfig:
    """Return a configuration whose data directory is for one relay that is far away: another one has other records."""
    directory = config.data_directory / "far" / "".join(c if c.isalnum() else "_" for c in address.partition("//")[2])
    return config.model_copy(update={"mesh": config.mesh.model_copy(update={"data_directory": directory})})


class FarRelay(RelayConnection):
    """A connection to a relay of another host that carries there what stands in journals of this one.

    Parameters
    ----------
    address
        Of the relay.
    config
        Of this host: where its keys are.
    partition
        Carried are those of this name, of all channels.
    key, identity
        As for `trapline.client.connect`.

    Raises
    ------
    ConfigError
        When the address is none, or a key cannot be used.
    """

    def __init__(
        self, address: str, config: MeshConfig, partition: str, *, key: str | None, identity: Path | None
    ) -> None:
        if not RELAY_ADDRESS.fullmatch(address):
            raise ConfigError(f"{address!r} is not an address such as tcp://host-a:7400")
        super().__init__(address, given_keys(key, identity) if key else client_keys(config, address))
        data = far_config(config, address).data_directory
        self._journal = data / "journal"
        self._partition = partition
        self._marks_path = data / "snapshots" / f"{partition}.carried"
        self._written = asyncio.Event()
        self._trouble_told: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._marks: dict[str, int] = json.loads(self._marks_path.read_text()) if self._marks_path.exists() else {}
        self._readers: dict[str, PartitionReader] = {}
        self._carrier = asyncio.create_task(self._carry_for_ever(), name="carry to the relay")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._carrier.cancel()
        await asyncio.gather(self._carrier, return_exceptions=True)
        with contextlib.suppress(TimeoutError, RelayUnreachableError):
            async with asyncio.timeout(_LAST_S):
                await self._carry()
        await super().__aexit__(*exception)

    def notify(self, request: Notice) -> None:
        """See `Channels.notify`: that journals have grown concerns nobody but the carrier."""
        if isinstance(request, Tick):
            self._written.set()
        else:
            super().notify(request)

    async def _carry_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            self._written.clear()
            try:
                await self._carry()
            except RelayUnreachableError:
                # Whoever reads through this connection has said so.
                await asyncio.sleep(backoff.next_s())
                continue
            except (OSError, IndexError) as error:
                self._tell("all channels", str(error))
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._written.wait()

    async def _carry(self) -> None:
        """Append at the relay all that is not there yet; what the relay refuses stops only its channel."""
        for directory in sorted(self._journal.glob(f"*/{self._partition}")):
            channel = directory.parent.name
            reader = self._readers.setdefault(channel, PartitionReader(directory))
            reader.rescan()
            reader.refresh()
            try:
                await self._carry_channel(channel, reader)
                self._trouble_told.pop(channel, None)
            except RelayRefusedError as error:
                self._tell(channel, str(error))

    async def _carry_channel(self, channel: str, reader: PartitionReader) -> None:
        # A power cut may have taken what was carried: it is made again, with the same ids.
        seq = min(self._marks.get(channel, 0), reader.next_seq)
        if channel == "status":
            # Of a report only the newest is news.
            seq = max(seq, reader.next_seq - 1)
        while (seq := reader.readable_from(max(seq, reader.first_seq))) < reader.next_seq:
            slab = reader.slab(seq, max_bytes=_MAX_BYTES, max_records=1000)
            for entry in slab.entries:
                frames: list[Buffer] = [bytes(slab.data[offset : offset + n]) for offset, n in entry.spans]
                await self.append(channel, self._partition, frames)
                seq = entry.seq + 1
                self._marks[channel] = seq
            self._note(reader, seq, keep=channel == "dead_letters")

    def _note(self, reader: PartitionReader, seq: int, *, keep: bool) -> None:
        """Note what was carried, and give up what nobody asks for any more; of dead letters all are asked for."""
        self._marks_path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._marks_path, json.dumps(self._marks).encode())
        if not keep:
            reader.drop_before(min(seq, reader.seq_at(now_us() - _KEPT_US)))

    def _tell(self, channel: str, reason: str) -> None:
        if self._trouble_told.get(channel) != reason:
            self._trouble_told[channel] = reason
            _log.error("not published: it is kept here, and tried again", channel=channel, reason=reason)
