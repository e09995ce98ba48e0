"""`trapline journal replay`: recorded channels again, into another mesh."""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from trapline.client.patience import Patience
from trapline.common.channel import Connection, RelayRefusedError, parse_time_us
from trapline.common.commands.journal import chosen
from trapline.common.commands.options import ConfigOption, fail, relay_connection, run
from trapline.common.config.mesh import load_config
from trapline.common.journal import PartitionReader
from trapline.common.relay.process import ADDRESS_FILE, relay_address
from trapline.schemas.message import Buffer

app = typer.Typer()
PatienceOption = Annotated[float, typer.Option(min=0, help="Seconds to wait for a relay that is away.")]


@app.command(epilog="Example: trapline journal replay images --to tcp://127.0.0.1:7500 --from 2026-01-31T20:00:00")
def replay(
    partitions: Annotated[list[str], typer.Argument(help="CHANNEL or CHANNEL/PARTITION.", show_default=False)],
    to: Annotated[str, typer.Option(help="Address of the relay of another mesh.", show_default=False)],
    start: Annotated[str | None, typer.Option("--from", help="First record: a seq or a UTC time.")] = None,
    until: Annotated[str | None, typer.Option(help="A seq or a UTC time; records before it are replayed.")] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="1 as it was recorded, 2 twice as fast, 0 as fast as it goes.")
    ] = 0.0,
    patience: PatienceOption = 30.0,
    config: ConfigOption = None,
) -> None:
    """Publish recorded channels of this host again, in their order, to the relay of another mesh.

    Records keep their ids, so that a replay that was interrupted can be started again.
    """
    _refuse_own(to, config)
    recorded = [_Recorded(name, reader, start, until) for name, reader in chosen(partitions, config)]
    appended, refused = run(_replay(relay_connection(config, to), recorded, speed, patience))
    sys.stdout.write(f"{appended} records are in the mesh at {to}\n")
    if refused:
        fail(f"{refused} records have no id and cannot be published")


def _refuse_own(to: str, config: ConfigOption) -> None:
    loaded = load_config(config)
    file = loaded.data_directory / ADDRESS_FILE
    own = {relay_address(loaded), f"ipc://{loaded.ipc_path}", file.read_text().strip() if file.exists() else ""}
    if to in own:
        fail(f"{to} is the mesh whose journals these are; give the address of another with --to", 2)


class _Recorded:
    """What is replayed of one partition."""

    def __init__(self, name: str, reader: PartitionReader, start: str | None, until: str | None) -> None:
        self.channel, _, self.partition = name.partition("/")
        self._reader = reader
        self._seq = max(reader.first_seq, _seq(reader, start) if start else 0)
        self._end = min(reader.next_seq, _seq(reader, until) if until else reader.next_seq)

    def __len__(self) -> int:
        return max(0, self._end - self._seq)

    def records(self) -> Iterator[tuple[int, str, str, list[Buffer]]]:
        """Yield (time of the append in us, channel, partition, frames); what is damaged is passed over."""
        seq = self._seq
        while seq < self._end and (seq := self._reader.readable_from(seq)) < self._end:
            slab = self._reader.slab(seq, max_bytes=8 << 20, max_records=min(1000, self._end - seq))
            for entry in slab.entries:
                yield entry.t_us, self.channel, self.partition, [slab.data[o : o + n] for o, n in entry.spans]
            seq += len(slab.rows)


def _seq(reader: PartitionReader, text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return reader.seq_at(parse_time_us(text))
    except ValueError as error:
        fail(error, 2)


async def _replay(relay: Connection, recorded: list[_Recorded], speed: float, patience_s: float) -> tuple[int, int]:
    """Append everything in order of time; return how many records were, and how many could not be."""
    loop, patience = asyncio.get_running_loop(), Patience(patience_s)
    console = Console(stderr=True)
    appended = refused = 0
    first: tuple[int, float] | None = None
    async with relay as connection:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("replaying", total=sum(map(len, recorded)))
            for t_us, channel, partition, frames in heapq.merge(*(r.records() for r in recorded), key=lambda r: r[0]):
                first = first or (t_us, loop.time())
                if speed:
                    await asyncio.sleep(max(0.0, first[1] + (t_us - first[0]) / 1e6 / speed - loop.time()))
                try:
                    await patience.call(partial(connection.append, channel, partition, frames))
                    appended += 1
                except RelayRefusedError as error:
                    if "needs an 'id'" not in str(error) and "not msgpack" not in str(error):
                        raise
                    refused += 1
                progress.advance(task)
    return appended, refused
