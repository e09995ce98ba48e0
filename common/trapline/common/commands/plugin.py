"""The command that runs plug-ins, replays them, and writes new ones."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import typer

from trapline.common.channel import Record
from trapline.common.commands.channels import describe, printable
from trapline.common.commands.options import ConfigOption, JsonOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.logging import configure_logging
from trapline.common.plugin.declare import PluginError
from trapline.common.plugin.far import FarRelay, far_config
from trapline.common.plugin.load import Plugin, load_plugin
from trapline.common.plugin.process import RunOptions, plugin_service
from trapline.common.plugin.replay import Replay, parse_span
from trapline.common.plugin.scaffold import write_example
from trapline.common.runtime.daemon import run_process
from trapline.schemas.header import Header
from trapline.schemas.message import Message
from trapline.schemas.registry import schema_of

app = typer.Typer()


@app.command(
    epilog="Examples: trapline plugin flares.py · trapline plugin flares.py --replay 2026-01-31T20:00..latest · "
    "trapline plugin new flares"
)
def plugin(
    file: Annotated[str, typer.Argument(help="A Python file with @subscribes functions; or `new`.")],
    name: Annotated[str | None, typer.Argument(help="After `new`: the name of the plug-in to write.")] = None,
    replica: Annotated[str, typer.Option(help="Name of this worker of a group; its partitions have it.")] = "0",
    start: Annotated[
        str | None, typer.Option("--from", help="Where to begin the first time: first, latest, or a UTC time.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(metavar="SINCE..UNTIL", help="Run over what is recorded, and publish nothing.")
    ] = None,
    journals: Annotated[
        Path | None, typer.Option("--in", help="With --replay: a directory that --record wrote.", show_default=False)
    ] = None,
    called: Annotated[
        str | None, typer.Option("--name", help="Its name in the mesh; without it that of the file.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Keep what it reads and publishes there.")
    ] = None,
    relay: Annotated[
        str | None, typer.Option(help="Address of a relay far away, such as tcp://host-a:7400; by default this host's.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="With --relay: its public key, or the file; else as [security] relays says.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="With --key: the file with the own key pair; else [security] identity.")
    ] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Run a plug-in beside the mesh: its functions get the records of channels, and publish on others."""
    try:
        if file == "new":
            _new(name)
            return
        if name is not None:
            fail(f"{name!r} is one argument too many; options begin with --", 2)
        effective = load_config(config)
        loaded = _load(Path(file), called, effective, supervised=supervised)
        if replay is not None:
            if relay is not None:
                fail("--replay reads journals on this machine: --record makes some of what comes from --relay", 2)
            since, until = parse_span(replay)
            where = (journals or effective.data_directory) / "journal"
            _replay(Replay(loaded, where, since, until), as_json=as_json)
            return
        options = RunOptions(int(start) if start and start.isdecimal() else start, record)
        number = effective.replica(replica)
        far = FarRelay(relay, effective, f"{loaded.name}-{number}", key=key, identity=identity) if relay else None
        service = plugin_service(loaded, options, far)
    except (PluginError, ConfigError) as error:
        if supervised:
            # As a line of its log, where an operator looks.
            configure_logging("info", service=called or Path(file).stem, replica=replica)
            structlog.get_logger().error("cannot run", reason=str(error))
            raise typer.Exit(2) from None
        fail(error, 2)
    if not supervised:
        _say_what(loaded)
    at_home = far_config(effective, relay) if relay else effective
    raise typer.Exit(run_process(service, at_home, number, supervised=supervised))


def _load(file: Path, name: str | None, config: MeshConfig, *, supervised: bool) -> Plugin:
    """Return the plug-in of a file; one that is supervised behaves as its table of `mesh.toml` says."""
    listed = config.plugins.get(name or file.stem) if supervised else None
    if listed:
        os.nice(listed.niceness)
    loaded = load_plugin(file, name)
    if listed and listed.replicas > 1 and not loaded.group:
        raise PluginError(
            f"[plugins.{loaded.name}] replicas = {listed.replicas}, but its functions take every record: "
            "only those with group=True share them"
        )
    return loaded


def _new(name: str | None) -> None:
    if name is None:
        fail("a new plug-in needs a name: trapline plugin new NAME", 2)
    written = write_example(Path.cwd(), name)
    sys.stdout.write("".join(f"wrote {path.name}\n" for path in written))
    sys.stdout.write(f"test it:  pytest {written[1].name}\nrun it:   trapline plugin {written[0].name}\n")


def _say_what(loaded: Plugin) -> None:
    writes = ", ".join(loaded.outputs) or "nothing"
    how = "as one of a group" if loaded.group else "in order"
    sys.stderr.write(f"{loaded.name}: reads {', '.join(loaded.reads)} {how}, publishes {writes}; Ctrl-C ends it\n")


def _replay(run: Replay, *, as_json: bool) -> None:
    published: Counter[str] = Counter()
    for record, message in run.run():
        channel = schema_of(type(message.header)).channel
        published[channel] += 1
        sys.stdout.write(_line(channel, record, message, as_json=as_json) + "\n")
    for place, text in run.failed:
        sys.stderr.write(f"{place}: {text.strip().splitlines()[-1]}\n")
    made = ", ".join(f"{n} on {channel}" for channel, n in sorted(published.items())) or "nothing"
    rate = run.records / run.seconds if run.seconds else 0.0
    failed = f"; {len(run.failed)} would be dead letters" if run.failed else ""
    sys.stderr.write(
        f"{run.plugin.name}: {run.records} records in {run.seconds:.2f} s ({rate:.0f}/s), "
        f"would have published {made}{failed}\n"
    )


def _line(channel: str, record: Record, message: Message[Header], *, as_json: bool) -> str:
    header = message.header
    own = [n for n in header.__struct_fields__ if n not in Header.__struct_fields__]
    values = printable(msgspec.to_builtins({n: getattr(header, n) for n in own}, builtin_types=(bytes,)))
    if as_json:
        rows = {name: array.tolist() for name, array in message.arrays.items() if array.ndim == 1}
        return json.dumps({"channel": channel, "input": str(record.place), **values, **printable(rows)})
    plain = {k: v for k, v in values.items() if isinstance(v, (str, int, float))}
    words = " ".join(f"{k}={_short(v)}" for k, v in plain.items()) or describe(header)
    return f"{record.place}  {channel}  {words}"


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
