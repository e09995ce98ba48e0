"""A real PostgreSQL for tests: one server for many tests, and a fresh database for each."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from trapline.common.postgres import migrate
from trapline.common.postgres.binaries import Choice
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.connection import run_blocking
from trapline.common.postgres.files import USER

_TEMPLATE = "trapline_template"
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
_numbers = itertools.count()


@contextmanager
def server_directory() -> Iterator[Path]:
    """Lend a directory that a server can use, whoever it runs as: below the temporary directory, open to enter."""
    path = Path(tempfile.mkdtemp(prefix="trapline-test-"))
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def temporary_cluster(binaries: Choice = "auto", *, durable: bool = False) -> Iterator[Cluster]:
    """Run a server while the block lasts, without care for a power cut unless it is to be `durable`."""
    with server_directory() as directory:
        cluster = Cluster(directory, DatabaseConfig(binaries=binaries), {} if durable else _FAST)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


@contextmanager
def fresh_database(cluster: Cluster) -> Iterator[str]:
    """Lend the DSN of a database with all tables and no rows: a copy of one that is migrated once per server."""
    if _TEMPLATE not in {row["datname"] for row in run_sql(cluster.dsn(), "SELECT datname FROM pg_database")}:
        run_sql(cluster.dsn(), f"CREATE DATABASE {_TEMPLATE}")
        migrate.upgrade(cluster.dsn(_TEMPLATE))
    with empty_database(cluster, template=_TEMPLATE) as dsn:
        yield dsn


@contextmanager
def empty_database(cluster: Cluster, *, template: str = "template1", owner: str = USER) -> Iterator[str]:
    """Lend the DSN of a new database that holds what its template does: by default nothing."""
    name = f"test_{next(_numbers)}"
    # Copying files is quicker than logging each page, where nothing is synced.
    run_sql(cluster.dsn(), f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner} STRATEGY file_copy")
    try:
        yield cluster.dsn(name)
    finally:
        run_sql(cluster.dsn(), f"DROP DATABASE {name} WITH (FORCE)")


def run_sql(dsn: str, *statements: str) -> list[asyncpg.Record]:
    """Run statements one by one on a connection of their own, and return the rows of the last."""

    async def run() -> list[asyncpg.Record]:
        con = await asyncpg.connect(dsn)
        try:
            rows: list[asyncpg.Record] = []
            for statement in statements:
                rows = await con.fetch(statement)
            return rows
        finally:
            await con.close()

    return run_blocking(run)
