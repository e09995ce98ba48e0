"""Alembic's environment: raw SQL over asyncpg, without models.

From the command line: ``alembic -x dsn=postgresql://... upgrade head``, after `q3c.sql` or the q3c extension.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool


def _settings() -> tuple[str, str]:
    attributes = context.config.attributes
    dsn = attributes.get("dsn") or context.get_x_argument(as_dictionary=True).get("dsn")
    if not dsn:
        raise RuntimeError("which database? Give its address: -x dsn=postgresql://user@host/name")
    return str(dsn), str(attributes.get("version_table", "schema_version"))


def _migrate(connection: Connection, version_table: str) -> None:
    context.configure(connection=connection, target_metadata=None, version_table=version_table)
    with context.begin_transaction():
        context.run_migrations()


async def _connect_and_migrate() -> None:
    dsn, version_table = _settings()

    async def connect(*_: Any, **__: Any) -> Any:
        # The driver's own reading of the address: what works for the services works here.
        return await asyncpg.connect(dsn, server_settings={"application_name": "trapline migrations"})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate, version_table)
            await connection.commit()
    finally:
        await engine.dispose()


asyncio.run(_connect_and_migrate())
