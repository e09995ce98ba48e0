"""Commands about the associator's state: rebuild it."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer

from trapline.common.commands.options import EXPECTED, ConfigOption, fail
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.postgres.errors import DatabaseError

app = typer.Typer()
associator = typer.Typer(help="The associator's state.", no_args_is_help=True)
app.add_typer(associator, name="associator")

_SOURCES = ("auto", "journals", "store")


@associator.command(epilog="Example: trapline associator rebuild")
def rebuild(
    replica: Annotated[str, typer.Option(help="Which associator.")] = "0",
    source: Annotated[str, typer.Option("--from", help=f"{', '.join(_SOURCES)}.")] = "auto",
    config: ConfigOption = None,
) -> None:
    """Make its state anew when the snapshot is lost, refused or older. It must be stopped.

    From the journals, when they reach back to the first record: the next start reads them all. Else from the store, and
    from what the newest records of the associator say; what that cannot recover is told. Nothing is published twice.
    """
    if source not in _SOURCES:
        fail(f"--from {source}: there are {', '.join(_SOURCES)}", 2)
    # Found by name: nothing in common imports a service.
    work: Any = importlib.import_module("trapline.associator.rebuild")
    try:
        for line in work.rebuild(load_config(config), replica, source):
            sys.stdout.write(f"{line}\n")
    except ConfigError as error:
        fail(error, 2)
    except (DatabaseError, *EXPECTED) as error:
        fail(error)
