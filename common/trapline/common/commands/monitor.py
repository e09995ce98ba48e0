"""Commands about positions that are measured in every image, whether anything is found there or not."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from trapline.common.channel import ChannelReader, Connection, Record
from trapline.common.commands.options import ConfigOption, JsonOption, RelayOption, fail, relay_connection, run
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.ids import fact_id, monitored_id, text_id
from trapline.schemas.columns import SchemaError
from trapline.schemas.images import SCHEMA, Command, Images
from trapline.schemas.message import Message, encode

CHANNEL = "commands"
_PARTITION = "operator"

app = typer.Typer()
monitor = typer.Typer(help="Positions that are measured in every image that covers them.", no_args_is_help=True)
app.add_typer(monitor, name="monitor")

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", help="Processing of the sky; by default that of the mesh.")
]


@monitor.command(epilog='Example: trapline monitor add 83.633 22.014 --name "Crab pulsar"')
def add(
    ra: Annotated[float, typer.Argument(min=0, max=360, help="Right ascension, ICRS degrees.")],
    dec: Annotated[float, typer.Argument(min=-90, max=90, help="Declination, ICRS degrees; behind -- when negative.")],
    name: Annotated[str, typer.Option(help="For people.")] = "",
    dataset: DatasetOption = None,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Measure a position from the next image on. Its lightcurve has the id that is printed."""
    chosen, ra = dataset or _dataset(config), ra % 360
    asked = Command("monitor_add", monitored_id(chosen, ra, dec), ra, dec, name)
    run(_tell(asked, chosen, relay_connection(config, relay)))
    sys.stdout.write(f"{text_id(asked.object_id)}\n")


@monitor.command(epilog="Example: trapline monitor remove 'Crab pulsar'")
def remove(
    position: Annotated[str, typer.Argument(help="Id or name, as `trapline monitor list` shows them.")],
    dataset: DatasetOption = None,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Measure a position no more. Its lightcurve stays."""
    chosen = dataset or _dataset(config)
    watched = run(_watched(chosen, relay_connection(config, relay)))
    found = [one for one in watched if position in (text_id(one.object_id), one.label)]
    if not found:
        fail(f"no position {position!r} is monitored: `trapline monitor list` shows which are")
    if len(found) > 1:
        fail(f"{len(found)} positions are called {position!r}: name one by its id")
    run(_tell(Command("monitor_remove", found[0].object_id), chosen, relay_connection(config, relay)))


@monitor.command(name="list", epilog="Example: trapline monitor list --json")
def list_(
    as_json: JsonOption = False,
    dataset: DatasetOption = None,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Show the positions that are measured: id, right ascension, declination, name."""
    for one in run(_watched(dataset or _dataset(config), relay_connection(config, relay))):
        row = {"object": text_id(one.object_id), "ra_deg": one.ra_deg, "dec_deg": one.dec_deg, "name": one.label}
        text = json.dumps(row) if as_json else f"{row['object']}  {one.ra_deg:10.5f} {one.dec_deg:+10.5f}  {one.label}"
        sys.stdout.write(text + "\n")


def _dataset(config: Path | None) -> str:
    try:
        return load_config(config).mesh.dataset
    except ConfigError as error:
        fail(error, 2)


async def _tell(asked: Command, dataset: str, relay: Connection) -> None:
    """Publish a command: when it is told it is on the relay's disk."""
    # Adding, removing and adding again are three commands: the time makes the difference.
    id_ = fact_id(0, "command", asked.name, asked.object_id, time.time_ns())
    message = Message(Images(schema=SCHEMA, id=id_, dataset=dataset, command=asked))
    async with relay as connection:
        await connection.append(CHANNEL, _PARTITION, encode(message))


async def _watched(dataset: str, relay: Connection) -> list[Command]:
    """Return the positions that were added and not removed, in the order in which they were added."""
    found: dict[bytes, Command] = {}
    async with relay as connection:
        reader = ChannelReader(connection, (CHANNEL,))
        while not reader.caught_up:
            for item in await reader.read(0):
                asked = _command(item, dataset) if isinstance(item, Record) else None
                if asked is not None and asked.name == "monitor_add":
                    found.setdefault(asked.object_id, asked)
                elif asked is not None:
                    found.pop(asked.object_id, None)
    return list(found.values())


def _command(record: Record, dataset: str) -> Command | None:
    try:
        header = record.header
    except SchemaError:
        return None
    return header.command if isinstance(header, Images) and header.dataset == dataset else None
