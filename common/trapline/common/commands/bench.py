"""The command that measures speed: it runs the benchmarks of the clone that this package is installed from."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trapline.common.commands.options import JsonOption, fail
from trapline.common.supervisor.environment import child_environment

app = typer.Typer()

_CLONE = Path(__file__).parents[4]


class Size(StrEnum):
    """How much is measured."""

    SMALL = "small"
    FULL = "full"


@app.command(epilog="Example: trapline bench channel extract --size small --json")
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which; `all` for all, none to list them.")] = None,
    size: Annotated[Size, typer.Option(help="small is quick enough for CI; full is what targets are for.")] = Size.FULL,
    as_json: JsonOption = False,
) -> None:
    """Measure speed as ratios against bare libraries in the same run, from a clone of the repository."""
    tests = _CLONE / "tests"
    if not (tests / "bench" / "__main__.py").is_file():
        fail(f"the benchmarks are in a clone of the repository, not in {_CLONE}: there, run `make bench`", 2)
    arguments = [*(names or []), "--size", size.value, *(["--json"] if as_json else [])]
    path = os.pathsep.join(filter(None, (str(tests), os.environ.get("PYTHONPATH"))))
    # As many threads of the numerical libraries as a service has.
    environment = {**os.environ, **child_environment({}), "PYTHONPATH": path}
    command = [sys.executable, "-P", "-m", "bench", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606  our own program, never through a shell
