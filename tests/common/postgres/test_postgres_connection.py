from __future__ import annotations

import asyncio

import asyncpg
import pytest

from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.connection import Database, open_database, public_name, run_blocking
from trapline.common.postgres.errors import DatabaseError, DatabaseUnavailableError

QUICK = DatabaseConfig(connect_timeout_s=2, lock_timeout_s=0.1, statement_timeout_s=0.2, connections=2)


async def test_every_connection_has_its_limits(dsn: str) -> None:
    config = DatabaseConfig(lock_timeout_s=1.5, statement_timeout_s=7, idle_in_transaction_timeout_s=9)
    async with open_database(dsn, config, program="a test") as database:
        for _ in range(2):  # also one that was used before
            async with database.connection() as con:
                names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "application_name")
                values = [await con.fetchval("SELECT current_setting($1)", name) for name in names]
                assert values == ["1500ms", "7s", "9s", "a test"]
                await con.execute("SET statement_timeout = 0")


async def test_a_statement_that_takes_too_long_is_for_later(dsn: str) -> None:
    async with open_database(dsn, QUICK) as database:
        with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
            async with database.connection() as con:
                await con.execute("SELECT pg_sleep(10)")
        async with database.connection() as con:
            assert await con.fetchval("SELECT 1") == 1


async def test_a_lock_that_is_held_is_for_later(dsn: str) -> None:
    async with open_database(dsn, QUICK) as database, database.connection() as holder, holder.transaction():
        await holder.execute("INSERT INTO dataset VALUES ('00000000-0000-0000-0000-000000000001', 'a')")
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
            async with database.connection() as con:
                await con.execute("INSERT INTO dataset VALUES ('00000000-0000-0000-0000-000000000001', 'a')")


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_server_that_ends_us_in_the_middle_is_for_later(dsn: str, how: str) -> None:
    async def end(database: Database) -> None:
        """Wait until someone sleeps, and end that."""
        ended = False
        while not ended:
            async with database.connection() as con:
                asleep = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
                ended = bool(await con.fetch(f"SELECT {how}(pid) {asleep}"))

    async def insert_and_sleep(database: Database) -> None:
        async with database.connection() as con, con.transaction():
            await con.execute("INSERT INTO dataset VALUES ('00000000-0000-0000-0000-000000000001', 'a')")
            await con.execute("SELECT pg_sleep(10)")

    async with open_database(dsn) as database:
        ender = asyncio.create_task(end(database))
        with pytest.raises(DatabaseUnavailableError):
            await insert_and_sleep(database)
        await ender
        async with database.connection() as con:
            assert await con.fetchval("SELECT count(*) FROM dataset") == 0


async def test_our_own_mistakes_stay_what_they_are(dsn: str) -> None:
    async with open_database(dsn) as database:
        with pytest.raises(asyncpg.UndefinedTableError):
            async with database.connection() as con:
                await con.execute("SELECT * FROM nothing_of_that_name")
        with pytest.raises(FileNotFoundError):
            async with database.connection():
                raise FileNotFoundError("ours")


async def test_a_reader_cannot_write(dsn: str) -> None:
    async with open_database(dsn, read_only=True) as database:
        with pytest.raises(DatabaseError, match="read-only"):
            async with database.connection() as con:
                await con.execute("DELETE FROM point")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://trapline@/trapline?host=/nonexistent",
        "postgresql://trapline@127.0.0.1:1/trapline",
        "postgresql://trapline@no-such-host.invalid/trapline",
    ],
)
async def test_a_server_that_is_not_there_is_for_later(address: str) -> None:
    async with open_database(address, QUICK) as database:
        with pytest.raises(DatabaseUnavailableError, match=r"database trapline at .* does not answer: .+"):
            async with database.connection():
                pass


@pytest.mark.parametrize("address", ["mysql://trapline@host/name", "postgresql://host:port/name", "not an address"])
async def test_an_address_that_is_none_is_refused_with_an_example(address: str) -> None:
    async with open_database(address, QUICK) as database:
        with pytest.raises(DatabaseError, match="postgresql://user@host/name") as caught:
            async with database.connection():
                pass
        assert not isinstance(caught.value, DatabaseUnavailableError)


async def test_a_database_or_role_that_is_not_there_is_refused(postgres: Cluster) -> None:
    for address in (postgres.dsn("nowhere"), postgres.dsn().replace("trapline@", "nobody@")):
        async with open_database(address, QUICK) as database:
            with pytest.raises(DatabaseError, match=r"refuses the connection: .*does not exist") as caught:
                async with database.connection():
                    pass
            assert not isinstance(caught.value, DatabaseUnavailableError)


async def test_when_all_connections_are_lent_one_waits_and_says_so(dsn: str) -> None:
    config = DatabaseConfig(connections=1, connect_timeout_s=0.1)
    async with open_database(dsn, config) as database, database.connection():
        with pytest.raises(DatabaseUnavailableError, match="does not answer"):
            async with database.connection():
                pass


def test_passwords_are_in_no_message() -> None:
    assert (
        public_name("postgresql://me:secret@db.example:5433/sky?sslmode=require") == "database sky at db.example:5433"
    )
    assert "secret" not in repr(DatabaseConfig(dsn="postgresql://me:secret@db.example/sky"))


async def test_blocking_work_runs_inside_a_running_loop(dsn: str) -> None:
    async def ask() -> int:
        async with open_database(dsn) as database, database.connection() as con:
            return int(await con.fetchval("SELECT 42"))

    assert asyncio.get_running_loop().is_running()
    assert run_blocking(ask) == 42
