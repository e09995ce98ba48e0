"""Commands about the associator's state: rebuild it from the journals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trapline.common.commands.options import ConfigOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.journal import JournalError, JournalWriter, PartitionReader

app = typer.Typer()
associator = typer.Typer(help="The associator's state.", no_args_is_help=True)
app.add_typer(associator, name="associator")

_INPUTS = ("images", "sources")


@associator.command(epilog="Example: trapline associator rebuild")
def rebuild(
    replica: Annotated[str, typer.Option(help="Which associator.")] = "0",
    config: ConfigOption = None,
) -> None:
    """Put its snapshot aside, so that its next start makes the state anew from the journals. It must be stopped.

    The journals must reach back to the first record. What was published is not published again.
    """
    try:
        loaded = load_config(config)
    except ConfigError as error:
        fail(error, 2)
    snapshot = loaded.data_directory / "snapshots" / f"associator-{replica}.snapshot"
    told = loaded.journal_directory / "lightcurves" / replica
    if not told.is_dir():
        fail(f"there is no journal {told}: is this the directory of a mesh, or its --config named?")
    _refuse_while_running(told, loaded)
    cut = [text for path in (told, *_inputs(loaded)) if (text := _beginning_lost(path)) is not None]
    if cut:
        fail(
            f"the state cannot be made anew: {'; '.join(cut)}. Keep the snapshot, or begin another dataset: "
            "TRAPLINE__MESH__DATASET=NAME"
        )
    if snapshot.exists():
        snapshot.replace(snapshot.with_suffix(".aside"))
        sys.stdout.write(f"put aside as {snapshot.with_suffix('.aside')}\n")
    records = PartitionReader(told).next_seq
    sys.stdout.write(f"the next start of associator-{replica} makes its state anew from {records} records\n")


def _inputs(config: MeshConfig) -> list[Path]:
    return sorted(path for name in _INPUTS for path in (config.journal_directory / name).glob("*") if path.is_dir())


def _refuse_while_running(directory: Path, config: MeshConfig) -> None:
    try:
        JournalWriter(directory, **config.journal.writer_options("lightcurves")).close()
    except JournalError as error:
        fail(f"{error}: stop the associator first")


def _beginning_lost(directory: Path) -> str | None:
    reader = PartitionReader(directory)
    if not reader.next_seq or reader.first_seq == 0:
        return None
    return f"{directory.parent.name}/{directory.name} begins at record {reader.first_seq}, the others are gone"
