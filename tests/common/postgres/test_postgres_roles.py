"""The SQL for a server that is not ours: a writer that owns the tables, a reader that only reads, and not for long."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest

import lightcurve_messages as mesh
from bins_of_messages import lightcurve, records
from trapline.client import open_store
from trapline.common.postgres import migrate
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import open_database
from trapline.common.testing.postgres import run_sql
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.partitions import DAY_US
from trapline.database_dumper.retention import maintain
from trapline.database_dumper.store import store_batch

ROLES = Path(__file__).parents[3] / "deploy/postgres/roles.sql"
ADMIN = "administrator"


@pytest.fixture
def managed(any_postgres: Cluster) -> Iterator[str]:
    """Where an administrator who is no superuser has run the file, twice."""
    run_sql(any_postgres.dsn(), f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB")
    psql = any_postgres.binaries.program("psql")
    address = any_postgres.dsn("postgres").replace("trapline@", f"{ADMIN}@")
    library = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    for _ in range(2):
        command = [psql, address, "-v", "database=observatory", "-f", ROLES]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=library)
        assert done.returncode == 0, done.stderr
    yield any_postgres.dsn("observatory")
    run_sql(any_postgres.dsn(), "DROP DATABASE observatory WITH (FORCE)", "DROP OWNED BY trapline_writer, "
            "trapline_reader", f"DROP OWNED BY {ADMIN}", "DROP ROLE trapline_reader", "DROP ROLE trapline_writer",
            f"DROP ROLE {ADMIN}")  # fmt: skip


def as_role(dsn: str, role: str) -> str:
    return dsn.replace("trapline@", f"{role}@")


def test_the_writer_writes_and_the_reader_reads(managed: str) -> None:
    writer, reader = as_role(managed, "trapline_writer"), as_role(managed, "trapline_reader")
    assert migrate.upgrade(writer) in ("extension", "functions")
    rng = np.random.default_rng(1)
    messages = [lightcurve(mesh.START_US + i * DAY_US, mesh.object_ids(3), rng) for i in range(5)]

    async def write() -> int:
        async with open_database(writer) as database, database.connection() as con:
            binning = Binning(DumperConfig(keep_points_s=2 * 86_400))
            await store_batch(con, "test", records(messages), binning=binning)
            return await maintain(con, binning)

    assert asyncio.run(write()) > 0, "the writer drops its own partitions"
    with open_store(reader) as store:
        assert len(store.objects(cone=(85, 22, 20))) == 3
        assert len(store.lightcurve(mesh.object_ids(1)[0])) == 5
    assert run_sql(reader, "SELECT count(*) FROM trap.runningcatalog")[0][0] == 3
    settings: Any = run_sql(reader, "SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout'")
    assert dict(settings)["statement_timeout"] == "60000"
    for statement in ("DELETE FROM point", "CREATE TABLE mine (i integer)", "DROP TABLE image"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            run_sql(reader, "SET default_transaction_read_only = off", statement)
    with pytest.raises(asyncpg.QueryCanceledError):
        run_sql(reader, "SET statement_timeout = 50", "SELECT pg_sleep(10)")
