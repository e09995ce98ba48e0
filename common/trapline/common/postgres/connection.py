"""The one way to a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.errors import DatabaseError, DatabaseUnavailableError

T = TypeVar("T")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
"""what helpers take as `con`"""

_LATER = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, starting, cancelled by a time-out
    asyncpg.InsufficientResourcesError,  # disk, memory or connections are used up
    asyncpg.TransactionRollbackError,  # deadlock
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,  # the server could not read or write a file
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not promoted yet
)
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)


class Database:
    """A database, reached through `connection` only. Made by `open_database`."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], config: DatabaseConfig, name: str) -> None:
        self._pool = pool
        self._config = config
        self._name = name

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Its temporary tables live as long as it is in use now and then.

        Raises
        ------
        DatabaseUnavailableError
            When the server does not answer, now or in the middle, or not in time: try again later.
        DatabaseError
            When it answers and refuses us.
        """
        async with AsyncExitStack() as stack:
            try:
                acquired = self._pool.acquire(timeout=self._config.connect_timeout_s)
                con = await stack.enter_async_context(acquired)
            except ValueError as error:  # the driver's own among them
                raise DatabaseError(f"database.dsn is no address like postgresql://user@host/name: {error}") from None
            except _REFUSED as error:
                raise DatabaseError(f"{self._name} refuses the connection: {error}") from error
            except (OSError, TimeoutError, asyncpg.InterfaceError, *_LATER) as error:
                raise DatabaseUnavailableError(f"{self._name} does not answer: {_said(error)}") from error
            try:
                yield con
            except _LATER as error:
                raise DatabaseUnavailableError(f"{self._name} gave up: {_said(error)}") from error
            except (OSError, asyncpg.InterfaceError) as error:
                if not _is_gone(con):
                    raise
                raise DatabaseUnavailableError(f"{self._name} is gone: {_said(error)}") from error


@asynccontextmanager
async def open_database(
    dsn: str, config: DatabaseConfig | None = None, *, program: str = "trapline", read_only: bool = False
) -> AsyncIterator[Database]:
    """Open a database; nothing is asked of the server before the first `connection`.

    Parameters
    ----------
    dsn
        ``postgresql://...``
    config
        Time-outs and number of connections.
    program
        Name by which the server's operator sees us.
    read_only
        Refuse statements that write.
    """
    config = config or DatabaseConfig()
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=config.connections,
        timeout=config.connect_timeout_s,
        server_settings=_session(config, program, read_only=read_only),
    )
    try:
        yield Database(pool, config, public_name(dsn))
    finally:
        try:
            await asyncio.wait_for(pool.close(), config.connect_timeout_s)
        except TimeoutError:
            pool.terminate()


def public_name(dsn: str) -> str:
    """Return how to call a database in a log: its address without the password."""
    parts = urlsplit(dsn)
    where = parts.netloc.rpartition("@")[2] or "local socket"
    return f"database {parts.path.lstrip('/') or '(default)'} at {where}"


def run_blocking(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread with a loop of its own: from anywhere, also from inside a running loop."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(lambda: asyncio.run(work())).result()


def _session(config: DatabaseConfig, program: str, *, read_only: bool) -> dict[str, str]:
    limits = {
        "lock_timeout": config.lock_timeout_s,
        "statement_timeout": config.statement_timeout_s,
        "idle_in_transaction_session_timeout": config.idle_in_transaction_timeout_s,
    }
    settings = {name: f"{round(seconds * 1000)}ms" for name, seconds in limits.items()}
    settings |= {"application_name": program, "timezone": "UTC"}
    return settings | ({"default_transaction_read_only": "on"} if read_only else {})


def _is_gone(con: Connection) -> bool:
    try:
        return con.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken back what the server closed
        return True


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
