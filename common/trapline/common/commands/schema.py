"""Commands about the tables of the store: db."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from trapline.common.commands.options import ConfigOption, fail
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.postgres import migrate, q3c
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.listing import differences, listing
from trapline.common.supervisor.database import RunningDatabase, existing_database, running_database

app = typer.Typer()
db = typer.Typer(help="The tables of the store.", no_args_is_help=True)
app.add_typer(db, name="db")
T = TypeVar("T")


@db.command("init", epilog="Example: trapline db init --config mesh.toml")
def init(config: ConfigOption = None) -> None:
    """Make the tables in a database that has none; the embedded server is made too."""
    with _database(config, running_database) as (effective, database):
        found = _ask(effective, database, migrate.version)
        if found is not None:
            raise DatabaseError(f"{database} has schema {found} already: `trapline db upgrade` and `db check` are next")
        _upgrade(effective, database)


@db.command("upgrade", epilog="Example: trapline db upgrade --config mesh.toml")
def upgrade(config: ConfigOption = None) -> None:
    """Bring the tables of the store to the version of this program; `up` and `process` do it by themselves."""
    with _database(config, running_database) as (effective, database):
        _upgrade(effective, database)


@db.command("downgrade", epilog="Example: trapline db downgrade 0001 --yes")
def downgrade(
    target: Annotated[str, typer.Argument(metavar="VERSION", help="A version of the schema, or base: no tables.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really: what the older schema cannot hold is lost.")] = False,
    config: ConfigOption = None,
) -> None:
    """Bring the tables of the store back to an older version; stop the mesh before."""
    if not yes:
        fail("what the older schema cannot hold is lost; if you mean it, say --yes", 2)
    with _database(config, existing_database) as (effective, database):
        migrate.downgrade(database.dsn, target, effective.database)
        sys.stdout.write(f"{database}: schema {_ask(effective, database, migrate.version) or 'none'}\n")


@db.command("check", epilog="Example: trapline db check && trapline up")
def check(config: ConfigOption = None) -> None:
    """Compare the tables of the store with what this program expects; the exit code is 1 when they differ."""
    with _database(config, existing_database) as (effective, database):
        _ask(effective, database, migrate.refuse_other_schema)
        flavour = _ask(effective, database, q3c.installed)
        found = _ask(effective, database, differences)
        for line in found:
            sys.stdout.write(f"{line}\n")
        if found:
            raise DatabaseError(f"{database} differs: - is missing, + is in excess")
        sys.stdout.write(f"{database}: schema {migrate.newest_version()} as expected, positions indexed by {flavour}\n")


@db.command("listing", epilog="Example: trapline db listing | less")
def show_listing(config: ConfigOption = None) -> None:
    """Print tables, columns, keys, indexes and views of the store, with what they mean."""
    with _database(config, existing_database) as (effective, database):
        sys.stdout.write(_ask(effective, database, listing))


def _upgrade(config: MeshConfig, database: RunningDatabase) -> None:
    flavour = migrate.upgrade(database.dsn, config.database)
    sys.stdout.write(f"{database}: schema {migrate.newest_version()}, positions indexed by {flavour}\n")


@contextmanager
def _database(path: Path | None, lend: Callable[[MeshConfig], Any]) -> Iterator[tuple[MeshConfig, RunningDatabase]]:
    try:
        config = load_config(path)
        with lend(config) as database:
            yield config, database
    except (DatabaseError, ValueError) as error:
        fail(error)


def _ask(config: MeshConfig, database: RunningDatabase, question: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
    async def ask() -> T:
        async with (
            open_database(database.dsn, config.database, program="trapline db", read_only=True) as opened,
            opened.connection() as con,
        ):
            return await question(con)

    return asyncio.run(ask())
