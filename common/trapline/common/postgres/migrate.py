"""The schema of the database, brought to the version of this program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Literal

import asyncpg

from trapline.common.postgres import q3c
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.connection import Connection, open_database, run_blocking
from trapline.common.postgres.errors import DatabaseError

VERSION_TABLE = "schema_version"

# Alembic keeps the migration that runs in a variable of its module: one at a time in a process.
_alembic = threading.Lock()
# Of several processes that upgrade one database, the second waits, and finds nothing to do.
_ADVISORY_LOCK = 0x7261706C696E65


def upgrade(dsn: str, config: DatabaseConfig | None = None, target: str = "head") -> q3c.Flavour:
    """Bring a database to the newest schema (or a `target`), from nothing or from any version; say which q3c it has.

    This blocks, and may be called from anywhere; inside a running loop through `asyncio.to_thread`.

    Raises
    ------
    DatabaseError
        When the database is not there, or newer than this program, or we may not change it, or the extra that holds
        the migrations is not installed.
    """
    config = config or DatabaseConfig()
    return run_blocking(lambda: _upgrade(dsn, config, target))


def downgrade(dsn: str, target: str, config: DatabaseConfig | None = None) -> None:
    """Bring a database back to an older schema, or to no tables (``base``). What that cannot hold is lost.

    Raises
    ------
    DatabaseError
        When there is no such version, or the database is not newer, or as `upgrade` does.
    """
    if target != "base" and target not in versions():
        raise DatabaseError(f"there is no schema {target!r}; there are base, {', '.join(versions())}")
    config = config or DatabaseConfig()
    run_blocking(lambda: _downgrade(dsn, target, config))


def versions() -> list[str]:
    """Return all versions of the schema, the oldest first: what the files of the migrations begin with."""
    names = (path.name for path in (_scripts() / "versions").glob("[0-9]*.py"))
    return sorted(name.partition("_")[0] for name in names)


def newest_version() -> str:
    """Return the version of the newest migration."""
    return versions()[-1]


async def version(con: Connection) -> str | None:
    """Return the version of a database's schema; None when it has none yet."""
    if await con.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
        return None
    found = await con.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
    return None if found is None else str(found)


async def refuse_other_schema(con: Connection) -> None:
    """Raise `DatabaseError` when a database does not have the schema of this program, with what would mend it."""
    found = await version(con)
    if found != newest_version():
        raise DatabaseError(
            f"the store has schema {found or 'none'}, and this program needs {newest_version()}: "
            f"{'upgrade Trapline' if found and found > newest_version() else 'run `trapline db upgrade`'}"
        )


@asynccontextmanager
async def _alone(dsn: str, config: DatabaseConfig) -> AsyncIterator[tuple[Connection, str | None]]:
    """Lend a connection while no one else changes the schema, with its version; refuse one that is too new."""
    async with open_database(dsn, config, program="trapline db upgrade") as database, database.connection() as con:
        # Waiting for another upgrade, or building an index, takes as long as it takes.
        await con.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        await con.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
        found = await version(con)
        if found is not None and found > newest_version():
            raise DatabaseError(
                f"the database has schema {found}, newer than {newest_version()} of this program: upgrade Trapline"
            )
        yield con, found


async def _upgrade(dsn: str, config: DatabaseConfig, target: str = "head") -> q3c.Flavour:
    async with _alone(dsn, config) as (con, found):
        try:
            flavour = await q3c.install(con)
        except asyncpg.InsufficientPrivilegeError as error:
            raise DatabaseError(
                f"our role may not create functions ({error}): make it the owner of the database, "
                "or let the owner run `trapline db upgrade` once"
            ) from None
        if found != newest_version():
            # Alembic's environment runs a loop of its own, which cannot be inside ours.
            await asyncio.to_thread(_run_alembic, dsn, "upgrade", target)
        return flavour


async def _downgrade(dsn: str, target: str, config: DatabaseConfig) -> None:
    async with _alone(dsn, config) as (_, found):
        if found is None or (target != "base" and found < target):
            raise DatabaseError(f"the database has schema {found or 'none'}: it is not newer than {target}")
        await asyncio.to_thread(_run_alembic, dsn, "downgrade", target)


def _run_alembic(dsn: str, direction: Literal["upgrade", "downgrade"], target: str) -> None:
    try:
        from alembic import command
        from alembic.config import Config
    except ImportError:
        raise DatabaseError(
            "the database needs its tables made, which takes an extra: pip install 'trapline[migrations]'"
        ) from None
    settings = Config(attributes={"dsn": dsn, "version_table": VERSION_TABLE})
    settings.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    with _alembic:
        (command.upgrade if direction == "upgrade" else command.downgrade)(settings, target)


def _scripts() -> Path:
    return Path(str(files("trapline.schemas").joinpath("sql")))
