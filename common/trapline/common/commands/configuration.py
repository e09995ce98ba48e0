"""Commands about the configuration: config."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from trapline.common.commands.options import fail
from trapline.common.config import ConfigError
from trapline.common.config.from_trap import translate
from trapline.common.config.mesh import MeshConfig, load_config

app = typer.Typer()
group = typer.Typer(help="The configuration of a mesh.", no_args_is_help=True)
app.add_typer(group, name="config")


@group.callback()
def _config() -> None:
    """Make a group of what would be one command alone."""


@group.command("from-trap", epilog="Example: trapline config from-trap pipeline.cfg job_params.cfg > mesh.toml")
def from_trap(
    files: Annotated[list[Path], typer.Argument(help="pipeline.cfg and job_params.cfg of TraP, one or both.")],
) -> None:
    """Print the mesh.toml that a configuration of TraP amounts to, and what has no equivalent and why."""
    try:
        defaults = load_config()
        text = translate(files, lambda table, key: _has(defaults, table, key)).text()
        # A file that this program would refuse is no answer.
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "mesh.toml"
            path.write_text(text, encoding="utf-8")
            load_config(path)
    except ConfigError as error:
        fail(error, 2)
    sys.stdout.write(text)


def _has(config: MeshConfig, table: str, key: str) -> bool:
    section: BaseModel = config
    for name in table.split("."):
        section = getattr(section, name)
    return key in type(section).model_fields
