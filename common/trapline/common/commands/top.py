"""`trapline top`: the mesh, live."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trapline.common.channel import Connection, RelayUnreachableError
from trapline.common.commands.flow import Flow, HostFlow, flow
from trapline.common.commands.options import ConfigOption, JsonOption, RelayOption, relay_connection, run
from trapline.common.journal import now_us

app = typer.Typer()


@app.command(epilog="Example: trapline top --every 2")
def top(
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    count: Annotated[int | None, typer.Option("-n", min=1, help="End after so many looks.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Show live what each channel carries, how far its readers are behind, what was lost, and the disk."""
    run(_top(relay_connection(config, relay), every, count, as_json=as_json))


async def _top(relay: Connection, every: float, count: int | None, *, as_json: bool) -> None:
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    async with relay as connection:
        # Whoever is not there at all is an error; one that goes away is waited for.
        before: tuple[dict[str, Any], int] = await connection.info(), now_us()
        with live or _Nothing():
            looks = 0
            while count is None or looks < count:
                await asyncio.sleep(every)
                try:
                    info, t_us = await connection.info(), now_us()
                except RelayUnreachableError as error:
                    _say(Text(str(error), "yellow"), live, console, as_json=as_json)
                    continue
                seen = flow({"address": connection.address, **info}, t_us, before)
                before, looks = (info, t_us), looks + 1
                if as_json:
                    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
                    sys.stdout.flush()
                else:
                    _say(picture(seen), live, console)


class _Nothing:
    """Stands for a live display where there is none."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def _say(what: Any, live: Live | None, console: Console, *, as_json: bool = False) -> None:
    if live:
        live.update(what, refresh=True)
    elif as_json:
        sys.stderr.write(f"trapline: {what}\n")
    else:
        console.print(what)


def picture(seen: Flow) -> Group:
    """Return what a person looks at: channels, readers, hosts."""
    clock = time.strftime("%H:%M:%S", time.gmtime(seen.t_us / 1e6))
    letters = Text(f"{clock} UTC   dead letters {seen.dead_letters}", "red" if seen.dead_letters else "dim")
    return Group(letters, _channels(seen), _readers(seen), *(Text(*_host(host)) for host in seen.hosts))


def _table(*headings: str, left: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=True)
    return table


def _channels(seen: Flow) -> Table:
    table = _table("channel", "partitions", "records", "records/s", "MB/s", "MB held", left=1)
    for c in seen.channels:
        table.add_row(
            c.channel, str(c.partitions), str(c.records), f"{c.records_per_s or 0:.1f}",
            f"{(c.bytes_per_s or 0) / 1e6:.2f}", f"{c.bytes / 1e6:.1f}",
        )  # fmt: skip
    return table


def _readers(seen: Flow) -> Table:
    table = _table("reader", "of", "behind", "seconds", "leased", "redelivered", left=2)
    for lag in seen.readers:
        style = "yellow" if lag.seconds > 10 else ""
        again = str(lag.redelivered or "")
        table.add_row(
            lag.reader, lag.channel, str(lag.records), f"{lag.seconds:.1f}", str(lag.leased or ""), again, style=style
        )
    return table


def _host(host: HostFlow) -> tuple[str, str]:
    """Return a host in one line, and its colour."""
    name = f"{host.host or host.address}: "
    if host.trouble:
        return f"{name}{host.trouble}", "yellow"
    free = f"{host.disk_free_bytes / 1e9:.1f} of {host.disk_bytes / 1e9:.1f} GB of disk left"
    text = f"{name}{free}, {host.gaps} records lost to readers, {host.leases_expired} leases expired"
    return text, "red" if host.gaps else "dim"
