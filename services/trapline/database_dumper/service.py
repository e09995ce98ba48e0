"""database_dumper as a daemon: a sink that keeps its read position beside the rows."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg
import structlog

from trapline.common.channel import Record
from trapline.common.config import ConfigError
from trapline.common.postgres.connection import Connection, Database, open_database
from trapline.common.postgres.errors import DatabaseError, DatabaseUnavailableError
from trapline.common.postgres.migrate import refuse_other_schema
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.sink import Sink, Unavailable
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.closing import LEAST_ROWS, Closing
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import RecordRows, rows_of
from trapline.database_dumper.retention import maintain
from trapline.database_dumper.salvage import refused_objects, without
from trapline.database_dumper.store import read_positions, store_batch
from trapline.schemas.header import Header
from trapline.schemas.message import Message, encode


@dataclass(frozen=True, slots=True)
class Care:
    """How often partitions are looked after, and how many rows at least are rewritten after a batch."""

    every_s: float = 60.0
    rows: int = LEAST_ROWS


class LightcurveStore:
    """Where `Sink` puts records: PostgreSQL.

    Parameters
    ----------
    database
        An open one.
    reader
        Whose positions these are. It names the journals too: other journals are read from their start.
    binning
        Open bins, and how long what is kept.
    counters
        Where to count what is dropped.
    care
        How often and how much is done for what is stored.
    """

    def __init__(
        self,
        database: Database,
        reader: str,
        binning: Binning | None = None,
        counters: Counter[str] | None = None,
        care: Care | None = None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._binning = binning or Binning()
        self._counters = Counter[str]() if counters is None else counters
        self._closing = Closing(self._binning.config)
        self._care = care or Care()
        self._maintained = -math.inf

    async def positions(self) -> list[Cursor]:
        """Return the committed read positions, once the tables are there."""
        try:
            async with self._database.connection() as con:
                await refuse_other_schema(con)
                return await read_positions(con, self._reader)
        except DatabaseError as error:
            raise Unavailable(str(error)) from error

    async def store(self, records: Sequence[Record], positions: Sequence[Cursor]) -> None:
        """Store records and the positions behind them, in one transaction."""
        rows = [rows_of(record.place, _message(record)) for record in records]
        try:
            async with self._database.connection() as con:
                await store_batch(con, self._reader, rows, positions, self._binning)
                self._counters["bins_expired"] = self._binning.expired
                await self._maintain(con, rows)
        except DatabaseUnavailableError as error:
            raise Unavailable(str(error)) from error

    async def mended(self, record: Record) -> tuple[Record, str] | None:
        """Return a record without the objects whose rows cannot be stored, and which these are; None: of no use."""
        try:
            message = _message(record)
            async with self._database.connection() as con:
                refused = await refused_objects(con, record.place, message, self._binning.config)
        except DatabaseUnavailableError as error:
            raise Unavailable(str(error)) from error
        if refused is None:
            return None
        self._counters["objects_refused"] += len(refused)
        frames = [bytes(frame) for frame in encode(without(message, refused))]
        text = "\n".join(f"object {UUID(bytes=key)}: {reason}" for key, reason in refused.items())
        return Record(record.place, record.t_us, frames), text

    async def _maintain(self, con: Connection, stored: Sequence[RecordRows]) -> None:
        """Care for the partitions now and then, a little at a time: the next batch does not wait for it long."""
        try:
            if time.monotonic() - self._maintained >= self._care.every_s:
                self._maintained = time.monotonic()
                self._counters["partitions_dropped"] += await maintain(con, self._binning)
                self._counters["partitions_closed"] += await self._closing.maintain(con)
            # More than comes in, so that it ends.
            points = sum(len(row.block.points["kind"]) for row in stored if row.block)
            await self._closing.step(con, max(self._care.rows, 2 * points))
        except asyncpg.PostgresError as error:
            # The batch is stored: no record is at fault, and the next round finishes what this one began.
            self._counters["maintenance_errors"] += 1
            structlog.get_logger().error("cannot care for the partitions", reason=str(error))


def _message(record: Record) -> Message[Header]:
    # Of `images` only the header was fetched.
    return Message(record.header) if record.place.channel == "images" else record.message


async def run(context: Context) -> None:
    """Store what the mesh publishes until told to drain."""
    settings = cast("DumperConfig", context.section)
    dsn = context.config.database.dsn
    if dsn is None:
        raise ConfigError("database.dsn is not set: `trapline up` runs an embedded server, a service alone needs a DSN")
    async with open_database(dsn, context.config.database, program=f"trapline {context.name}") as database:
        reader = f"{context.name}@{context.config.identity}"
        store = LightcurveStore(database, reader, Binning(settings), context.counters)
        await Sink(
            context,
            store,
            reads=("lightcurves", "transients", "triage"),
            reads_headers=("images",),
            flush_s=settings.flush_s,
            flush_records=settings.flush_records,
        ).run()


SERVICE = Service("database_dumper", run)
