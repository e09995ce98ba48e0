"""The database of a configuration, running while it is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trapline.common.config.mesh import MeshConfig
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import public_name
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.files import major_of

_LOOK_S = 1.0
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningDatabase:
    """Where it is, and what an operator should know of it (empty: nothing)."""

    dsn: str
    note: str = ""
    cluster: Cluster | None = None
    """the embedded server; None for one that is not ours to start"""

    def __str__(self) -> str:
        """Return its address without a password."""
        return public_name(self.dsn)

    async def keep_alive(self, say: Callable[[str], None]) -> None:
        """Start the embedded server again whenever it has died; meanwhile the journals hold what is to be stored."""
        while self.cluster is not None:
            await asyncio.sleep(_LOOK_S)
            try:
                if not self.cluster.is_running():
                    say("the embedded database died and is started again")
                    await asyncio.to_thread(self.cluster.start)
            except DatabaseError as error:
                say(f"the embedded database cannot be started again: {error}")
                await asyncio.sleep(_RETRY_S)


@contextmanager
def existing_database(config: MeshConfig) -> Iterator[RunningDatabase]:
    """Lend the database of a configuration as `running_database` does, but make none: for those who only read.

    Raises
    ------
    DatabaseError
        When there are no files of an embedded server, or it cannot run.
    """
    if not config.database.dsn:
        directory = (config.database.directory or config.data_directory / "postgres").expanduser()
        if not directory.is_dir() or major_of(Cluster(directory, config.database).data) is None:
            raise DatabaseError(f"there is no store in {directory.parent}: `trapline process` and `up` make one")
    with running_database(config) as database:
        yield database


@contextmanager
def running_database(config: MeshConfig) -> Iterator[RunningDatabase]:
    """Lend the database that the configuration names, or else the embedded one, started if it does not run.

    An embedded server that was started here is stopped at the end; one that a mesh has running is left alone.

    Raises
    ------
    DatabaseError
        When the embedded server cannot run, with the way out.
    """
    if config.database.dsn:
        yield RunningDatabase(config.database.dsn)
        return
    directory = config.database.directory or config.data_directory / "postgres"
    with Cluster(directory, config.database) as cluster:
        yield RunningDatabase(cluster.dsn(), cluster.note or "", cluster)
