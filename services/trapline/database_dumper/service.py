"""database_dumper as a daemon: a sink that keeps its read position beside the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from trapline.common.channel import Record
from trapline.common.config import ConfigError
from trapline.common.postgres.connection import Database, open_database
from trapline.common.postgres.errors import DatabaseUnavailableError
from trapline.common.postgres.migrate import newest_version, version
from trapline.common.relay.requests import Cursor
from trapline.common.runtime.context import Context
from trapline.common.runtime.daemon import Service
from trapline.common.runtime.sink import Sink, Unavailable
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import read_positions, store_batch
from trapline.schemas.header import Header
from trapline.schemas.message import Message


class LightcurveStore:
    """Where `Sink` puts records: PostgreSQL.

    Parameters
    ----------
    database
        An open one.
    reader
        Whose positions these are. It names the journals too: other journals are read from their start.
    """

    def __init__(self, database: Database, reader: str) -> None:
        self._database = database
        self._reader = reader

    async def positions(self) -> list[Cursor]:
        """Return the committed read positions, once the tables are there."""
        try:
            async with self._database.connection() as con:
                found = await version(con)
                if found != newest_version():
                    raise Unavailable(
                        f"the database has schema {found}, not {newest_version()}: run `trapline db upgrade`"
                    )
                return await read_positions(con, self._reader)
        except DatabaseUnavailableError as error:
            raise Unavailable(str(error)) from error

    async def store(self, records: Sequence[Record], positions: Sequence[Cursor]) -> None:
        """Store records and the positions behind them, in one transaction."""
        rows = [rows_of(record.place, _message(record)) for record in records]
        try:
            async with self._database.connection() as con:
                await store_batch(con, self._reader, rows, positions)
        except DatabaseUnavailableError as error:
            raise Unavailable(str(error)) from error


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
        store = LightcurveStore(database, f"{context.name}@{context.config.identity}")
        await Sink(
            context,
            store,
            reads=("lightcurves", "transients", "triage"),
            reads_headers=("images",),
            flush_s=settings.flush_s,
            flush_records=settings.flush_records,
        ).run()


SERVICE = Service("database_dumper", run)
