"""Commands that look into channels: tail, status."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import msgspec
import typer

from trapline.common.channel import ChannelReader, Connection, Gap, Record, Start
from trapline.common.channel.filters import field_of
from trapline.common.channel.heartbeats import newest_reports
from trapline.common.commands.flow import by_channel, lags
from trapline.common.commands.options import ConfigOption, JsonOption, RelayOption, fail, relay_connection, run
from trapline.common.ids import text_id
from trapline.common.journal import now_us
from trapline.schemas.columns import SchemaError
from trapline.schemas.described import Unregistered
from trapline.schemas.header import Header
from trapline.schemas.message import decode_header
from trapline.schemas.status import Status

app = typer.Typer()

_TOLD = ("kind", "alert_type", "veto", "service", "state", "command", "last_error", "channel")
"""fields of headers that say most in a line"""


@app.command(epilog="Example: trapline tail transients --from first -n 5 --json")
def tail(
    channel: Annotated[str, typer.Argument(help="images, sources, lightcurves, transients, status, dead_letters, ...")],
    start: Annotated[str, typer.Option("--from", help="first, latest, a seq, or a UTC time.")] = "latest",
    count: Annotated[int | None, typer.Option("-n", min=1, help="End after so many records.")] = None,
    suppressed: Annotated[
        bool, typer.Option("--suppressed", help="With transients: what vetoes kept back instead, and why.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    relay: RelayOption = None,
) -> None:
    """Follow a channel: one line a record."""
    position: Start = int(start) if start.isdecimal() else start
    if suppressed and channel != "transients":
        fail(f"--suppressed goes with transients, not with {channel}", 2)
    channel = "suppressed" if suppressed else channel
    run(_tail(channel, position, count, relay_connection(config, relay), as_json=as_json))


async def _tail(channel: str, start: Start, count: int | None, relay: Connection, *, as_json: bool) -> None:
    async with relay as connection:
        reader = ChannelReader(connection, (channel,), start=start, headers_only=True)
        await reader.discover()
        if not reader.cursors:
            names = sorted({p["channel"] for p in (await connection.info())["partitions"]})
            sys.stderr.write(f"trapline: nothing on {channel!r} yet; there are {', '.join(names) or 'no channels'}\n")
        left = count
        while left is None or left > 0:
            for item in await reader.read():
                if left == 0:
                    return
                sys.stdout.write(_line(item, as_json=as_json) + "\n")
                left = left - 1 if left is not None else None
            sys.stdout.flush()


def _line(item: Record | Gap, *, as_json: bool) -> str:
    if isinstance(item, Gap):
        return json.dumps({"gap": str(item)}) if as_json else f"gap: {item}"
    try:
        header = decode_header(item.frames[0] if item.frames else b"", unknown_ok=True)
    except SchemaError as error:
        return json.dumps({"place": str(item.place), "error": str(error)}) if as_json else f"{item.place}  {error}"
    if as_json:
        values = printable(msgspec.to_builtins(header, builtin_types=(bytes,)))
        # What a plug-in says stands beside what every message says, as in those that are known here.
        return json.dumps({"place": str(item.place), **values, **values.pop("fields", {})})
    return f"{_clock(item.t_us)}  {item.place}  {describe(header)}"


def describe(header: Header) -> str:
    """Return a record in a few words: what it is about, and how many rows it has."""
    rows = {f.name: f.shape[0] for f in header.frames if f.shape}
    names = _plugin_fields(header) or _TOLD
    fields = {name: field_of(header, name) for name in names}
    words = [f"{name}={value}" for name, value in fields.items() if value not in (None, "")]
    image: Any = getattr(header, "image", None)
    if image is not None:
        verdict = "rejected: " + ", ".join(r.check for r in image.quality.reasons) if image.quality.rejected else ""
        words += [text_id(image.id), image.band.name if image.band else "", verdict]
    if rows and "pixels" not in rows:
        words.append(f"{next(iter(rows.values()))} rows")
    return " ".join(filter(None, words)) or header.schema


def _plugin_fields(header: Header) -> list[str]:
    """Return the fields of a plug-in's message that fit a line."""
    if not isinstance(header, Unregistered):
        return []
    return [name for name, value in header.fields.items() if isinstance(value, (str, int, float))]


def printable(value: Any) -> Any:
    """Return a decoded header with ids as text and NaN as null, ready for JSON."""
    if isinstance(value, dict):
        return {key: printable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(inner) for inner in value]
    if isinstance(value, bytes):
        return text_id(value) if len(value) == 16 else value.hex()
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124


def _clock(t_us: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(t_us / 1e6)) + f".{t_us % 1_000_000 // 1000:03d}"


@app.command(epilog="Example: trapline status --json")
def status(as_json: JsonOption = False, config: ConfigOption = None, relay: RelayOption = None) -> None:
    """Show once what runs, how far it is, and what each channel holds."""
    answer = run(_status(relay_connection(config, relay)))
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
        return
    for service in answer["services"]:
        age = f"{service['age_s']:.0f} s ago" if service["age_s"] > 3 else ""
        words = (f"{service['service']}-{service['replica']}", service["state"], age, service["last_error"] or "")
        sys.stdout.write(f"{words[0]:22} {words[1]:10} {words[2]:10} {words[3]}\n")
        for name, source in service.get("sources", {}).items():
            sys.stdout.write(f"  {name:30} {_source(source)}\n")
    for p in answer["partitions"]:
        name = f"{p['channel']}/{p['partition']}"
        sys.stdout.write(f"{name:38} {p['first_seq']:>9} to {p['next_seq']:>9}  {p['bytes'] / 1e6:10.1f} MB\n")
    for lag in answer["lags"]:
        behind = f"{lag['records']:>9} behind, {lag['seconds']:.1f} s" if lag["records"] else f"{'':9} up to date"
        again = f", {lag['redelivered']} redelivered" if lag["redelivered"] else ""
        sys.stdout.write(f"{lag['reader']:22} of {lag['channel']:12} {behind}{again}\n")
    for host in answer["relays"]:
        if host["trouble"]:
            sys.stdout.write(f"relay away: {host['trouble']}\n")
        elif "disk_free_bytes" in host:
            sys.stdout.write(f"{host['host']:38} {host['disk_free_bytes'] / 1e9:9.1f} GB of disk left\n")
    if not answer["services"]:
        fail("the relay runs, but no service has reported yet")


def _source(values: dict[str, float]) -> str:
    """Return how an input is in a few words: what is zero is not said."""
    words = [f"{values.get('images', 0):.0f} images", f"{values.get('rate_hz', 0.0):.3g}/s"]
    if (last_us := values.get("last_us")) is not None:
        words.append(f"last {max(0.0, time.time() - last_us / 1e6):.0f} s ago")
    words += ["not connected"] if values.get("connected", 1.0) == 0 else []
    words += ["silent"] if values.get("silent") else []
    odd = ("rejected", "repeated", "late", "gaps", "missed", "unrecorded", "stream_skipped_bytes", "timeouts")
    words += [f"{name} {values[name]:.0f}" for name in odd if values.get(name)]
    return ", ".join(words)


async def _status(relay: Connection) -> dict[str, Any]:
    async with relay as connection:
        info = await connection.info()
        now = time.time()
        return {
            "services": [
                {**_all_fields(report), "age_s": max(0.0, now - report.t_us / 1e6)}
                for report in await newest_reports(connection, info)
            ],
            "partitions": info["partitions"],
            "groups": info["groups"],
            "readers": info["readers"],
            "lags": msgspec.to_builtins(by_channel(lags(info, now_us()))),
            "relays": info.get("relays") or [{"address": relay.address, "trouble": None, **_of_host(info)}],
        }


def _all_fields(report: Status) -> dict[str, Any]:
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return {name: printable(msgspec.to_builtins(value, builtin_types=(bytes,))) for name, value in fields.items()}


def _of_host(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key] for key in ("counters", "host", "disk_bytes", "disk_free_bytes") if key in info}
