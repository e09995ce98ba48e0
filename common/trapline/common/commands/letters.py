"""Commands for what could not be taken: dead-letters list, replay."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from trapline.common.channel import ChannelReader, Channels, Connection, Record
from trapline.common.commands.options import ConfigOption, JsonOption, RelayOption, fail, relay_connection, run
from trapline.common.ids import text_id
from trapline.common.runtime.dead_letters import take_again
from trapline.schemas.columns import SchemaError
from trapline.schemas.status import DeadLetter

app = typer.Typer()
letters = typer.Typer(help="Records that a service could not take, and giving them to it again.", no_args_is_help=True)
app.add_typer(letters, name="dead-letters")

ServiceOption = Annotated[str | None, typer.Option(help="Only those of this service or group.")]


class Found(NamedTuple):
    """A dead letter and when it was written, in us since 1970-01-01 UTC."""

    t_us: int
    letter: DeadLetter


@letters.command(name="list", epilog="Example: trapline dead-letters list --service source_extractor --json")
def show(
    service: ServiceOption = None, as_json: JsonOption = False, config: ConfigOption = None, relay: RelayOption = None
) -> None:
    """Show what could not be taken, the oldest first, and why."""
    for t_us, letter in run(_all(relay_connection(config, relay), service)):
        when = datetime.fromtimestamp(t_us / 1e6, UTC).isoformat(timespec="milliseconds")
        why = (letter.traceback.strip().splitlines() or [""])[-1]
        if as_json:
            image = text_id(letter.image_id) if letter.image_id else None
            row = {"place": str(letter.place), "service": letter.service, "image": image, "attempts": letter.attempts}
            sys.stdout.write(json.dumps({"t": when, **row, "why": why, "traceback": letter.traceback}) + "\n")
        else:
            sys.stdout.write(f"{when}  {letter.place!s:24} {letter.service:18} {letter.attempts} attempts  {why}\n")


@letters.command(epilog="Example: trapline dead-letters replay --service source_extractor")
def replay(
    places: Annotated[
        list[str] | None, typer.Argument(help="As `list` shows them: images/0@0:17.", show_default=False)
    ] = None,
    service: ServiceOption = None,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Give records to the workers of their group again, once the cause is mended; the exit code is 1 if one cannot.

    What was folded without them stays as it is: an image gets its sources, and its lightcurves no more points. To have
    those, process the image under another --dataset.
    """
    if not places and service is None:
        fail("say which: PLACE ..., or all of a --service", 2)
    refused = run(_replay(relay_connection(config, relay), places or [], service))
    if refused:
        fail("; ".join(refused))


async def _all(relay: Connection, service: str | None) -> list[Found]:
    async with relay as connection:
        return await _read(connection, service)


async def _read(connection: Channels, service: str | None) -> list[Found]:
    reader = ChannelReader(connection, ("dead_letters",), start="first")
    found: dict[tuple[str, str], Found] = {}
    while True:
        items = await reader.read(0.0)
        for item in items:
            if isinstance(item, Record) and (letter := _letter(item)) and service in (None, letter.service):
                # One that was taken again in vain is there twice.
                found[letter.service, str(letter.place)] = Found(item.t_us, letter)
        if not items and reader.caught_up:
            return sorted(found.values(), key=lambda one: one.t_us)


def _letter(record: Record) -> DeadLetter | None:
    try:
        header = record.header
    except SchemaError:
        return None
    return header if isinstance(header, DeadLetter) else None


async def _replay(relay: Connection, places: list[str], service: str | None) -> list[str]:
    async with relay as connection:
        known = await _read(connection, service)
        refused = [
            f"{place} is no dead letter" for place in places if place not in {str(f.letter.place) for f in known}
        ]
        for _, letter in known:
            if places and str(letter.place) not in places:
                continue
            try:
                await take_again(connection, letter)
            except ValueError as error:
                refused.append(str(error))
            else:
                sys.stdout.write(f"{letter.place} is given to {letter.service} again\n")
    return refused
