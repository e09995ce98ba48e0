"""Commands that look after the journals of this host, with the mesh running or not: journal info, verify, repair."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from trapline.common.channel import Connection
from trapline.common.commands.options import ConfigOption, JsonOption, RelayOption, fail, relay_connection, run
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.journal import JournalError, PartitionReader
from trapline.common.journal.repair import repair
from trapline.common.relay.catalogue import Catalogue

app = typer.Typer()
journal = typer.Typer(help="Look after the journals of this host.", no_args_is_help=True)
app.add_typer(journal, name="journal")

PartitionsArgument = Annotated[
    list[str] | None, typer.Argument(help="CHANNEL or CHANNEL/PARTITION; without any, all.", show_default=False)
]


@journal.command(epilog="Example: trapline journal info images --json")
def info(partitions: PartitionsArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show what each partition holds: records, times, epochs, segments, bytes, and what was put aside."""
    for name, reader in chosen(partitions, config):
        row = _describe(name, reader)
        if as_json:
            sys.stdout.write(json.dumps(row) + "\n")
            continue
        aside = f"  put aside: {', '.join(row['aside'])}" if row["aside"] else ""
        sys.stdout.write(
            f"{name:38} {row['first_seq']:>9} to {row['next_seq']:>9}  {row['segments']:>4} segments "
            f"{row['bytes'] / 1e6:10.1f} MB  epoch {row['epoch']}  "
            f"{row['first_time'] or '-'} to {row['last_time'] or '-'}{aside}\n"
        )


def _describe(name: str, reader: PartitionReader) -> dict[str, Any]:
    first, behind = reader.first_seq, reader.next_seq
    times = [_time_text(reader.time_of(seq)) for seq in (first, behind - 1) if _is_readable(reader, seq)]
    return {
        "partition": name,
        "first_seq": first,
        "next_seq": behind,
        "first_time": times[0] if times else None,
        "last_time": times[-1] if times else None,
        "epoch": reader.epoch,
        "epochs": len(reader.epochs().epochs),
        "segments": reader.segment_count,
        "bytes": reader.size_bytes,
        "aside": sorted(path.name for path in reader.directory.glob("*.bin")),
    }


def _time_text(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).isoformat(timespec="milliseconds")


def _is_readable(reader: PartitionReader, seq: int) -> bool:
    return reader.first_seq <= seq < reader.next_seq and reader.readable_from(seq) == seq


@journal.command(epilog="Example: trapline journal verify images/0")
def verify(partitions: PartitionsArgument = None, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Read everything and compare checksums; the exit code is 1 when something is damaged."""
    damaged = 0
    readers = list(chosen(partitions, config))
    progress = Console(stderr=True)
    for name, reader in track(readers, "verifying", console=progress, transient=True, disable=not progress.is_terminal):
        for damage in reader.verify():
            damaged += damage.end_seq - damage.seq
            row = {"partition": name, **damage._asdict(), "path": str(damage.path)}
            text = f"{name}: records {damage.seq} to {damage.end_seq - 1} are damaged, {damage.path} at {damage.offset}"
            sys.stdout.write((json.dumps(row) if as_json else text) + "\n")
    if damaged:
        fail(f"{damaged} records are damaged; `trapline journal repair` makes what stands behind them readable")
    records = sum(reader.next_seq - reader.first_seq for _, reader in readers)
    if not as_json:
        sys.stdout.write(f"{records} records in {len(readers)} partitions are intact\n")


@journal.command(name="repair", epilog="Example: trapline journal repair images/0")
def repair_partitions(
    partitions: Annotated[list[str], typer.Argument(help="CHANNEL or CHANNEL/PARTITION.", show_default=False)],
    config: ConfigOption = None,
) -> None:
    """Make readable what stands behind damage; what is damaged is kept aside. The writer must be stopped."""
    for name, reader in chosen(partitions, config):
        try:
            mended = list(repair(reader.directory))
        except JournalError as error:
            fail(error)
        for one in mended:
            runs = ", ".join(f"{run.seq} to {run.end_seq - 1}" for run in one.runs) or "none"
            sys.stdout.write(f"{name}: records that can be read: {runs}; the damaged file is kept as {one.kept}\n")
        if not mended:
            sys.stdout.write(f"{name}: no segment is damaged\n")


@journal.command(epilog="Example: trapline journal forget my-old-plugin")
def forget(
    name: Annotated[str, typer.Argument(help="A group or a named reader, as `trapline status` shows it.")],
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Forget a plug-in or service that will not come back, so that nothing is kept for it any more."""
    for row in run(_forget(relay_connection(config, relay), name)):
        sys.stdout.write(f"forgotten: the {row['kind']} {name} of {row['channel']}/{row['partition']}\n")


async def _forget(connection: Connection, name: str) -> list[dict[str, str]]:
    async with connection as channels:
        forgotten = await channels.forget(name)
        if not forgotten:
            info = await channels.info()
            known = sorted({g["group"] for g in info["groups"]} | {r["reader"] for r in info["readers"]})
            raise ValueError(f"there is no group or reader {name!r}; there are {', '.join(known) or 'none'}")
        return forgotten


def chosen(names: list[str] | None, config: Path | None) -> Iterator[tuple[str, PartitionReader]]:
    """Yield (CHANNEL/PARTITION, reader) of the partitions that are named, of all when none is."""
    try:
        directory = load_config(config).journal_directory
    except ConfigError as error:
        fail(error, 2)
    if not directory.is_dir():
        fail(f"there are no journals under {directory}: is this the directory of a mesh, or its --config named?")
    found = {f"{channel}/{partition}": reader for (channel, partition), reader in Catalogue(directory)}
    unknown = [n for n in names or () if not any(n in (key, key.partition("/")[0]) for key in found)]
    if unknown:
        fail(f"there is no {', '.join(unknown)}; there are {', '.join(found) or 'no partitions'}")
    for key, reader in found.items():
        if not names or key in names or key.partition("/")[0] in names:
            yield key, reader
