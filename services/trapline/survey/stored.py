"""The history of a field as the store has it: what a pipeline without a memory of its own would have to read."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from trapline.common.config import ConfigError
from trapline.common.postgres.connection import Database, open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.runtime.context import Context
from trapline.common.store.history import history
from trapline.common.store.objects import Cone, cone
from trapline.common.store.series import Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Served:
    """What the store had of a field, and the seconds that each of both questions took; NaN: it did not answer."""

    objects: int = 0
    points: int = 0
    objects_s: float = math.nan
    history_s: float = math.nan


class StoredHistory:
    """Asks the store, as any reader would: latest objects in a cone, and all points of these since a time."""

    def __init__(self, database: Database, context: Context) -> None:
        self._database, self._context = database, context

    async def look_up(self, field: Cone, since_us: int) -> Served:
        """Return what there is; a store that does not answer is counted, and the survey goes on."""
        try:
            async with self._database.connection() as con:
                begun_s = time.perf_counter()
                objects = await cone(con, *field)
                found_s = time.perf_counter()
                window = Window(_EPOCH + timedelta(microseconds=since_us))
                found = await history(con, [o.object.bytes for o in objects], window)
                ended_s = time.perf_counter()
        except (DatabaseError, asyncpg.PostgresError) as error:
            self._context.counters["histories_unavailable"] += 1
            self._context.log.warning("the store has no history for a visit", reason=str(error))
            return Served()
        return Served(len(objects), len(found.columns["t"]), found_s - begun_s, ended_s - found_s)


@asynccontextmanager
async def stored_history(context: Context) -> AsyncIterator[StoredHistory]:
    """Open the store that the mesh writes, to read.

    Raises
    ------
    ConfigError
        When the configuration names none.
    """
    config = context.config.database
    if config.dsn is None:
        raise ConfigError("survey.history_from_store needs database.dsn: `trapline survey run` sets it")
    async with open_database(config.dsn, config, program=f"trapline {context.name}", read_only=True) as database:
        yield StoredHistory(database, context)
