"""Options that several commands share, and how commands fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from trapline.common.channel import Connection, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.joining import connect_to, join
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.relay.process import relay_address

T = TypeVar("T")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A mesh.toml; without it ./mesh.toml, else the defaults.")
]
RelayOption = Annotated[
    str | None, typer.Option("--relay", help="Address of a relay; without it that of the mesh in the configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")]

EXPECTED = (ConfigError, RelayUnreachableError, RelayRefusedError, ValueError, OSError)


def fail(text: object, code: int = 1) -> NoReturn:
    """Say in one line what is wrong, and end with an exit code that says so too."""
    sys.stderr.write(f"trapline: {text}\n")
    raise typer.Exit(code)


def relay_connection(config: Path | None, address: str | None) -> Connection:
    """Return a connection to a relay, with the keys that the configuration has for it; by default to the whole mesh."""
    try:
        loaded = load_config(config)
        return connect_to(loaded, address) if address else join(loaded, home=relay_address(loaded))
    except ConfigError as error:
        fail(error, 2)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; errors that a user can mend become one line, and Ctrl-C a quiet end."""
    try:
        return asyncio.run(work)
    except ConfigError as error:
        fail(error, 2)
    except BrokenPipeError:
        raise  # no error of ours: whoever read our output has enough
    except EXPECTED as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
