"""Rows into tables by binary COPY, straight or over what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator

from trapline.common.postgres.connection import Connection
from trapline.database_dumper.binary_copy import HEADER, TRAILER
from trapline.database_dumper.core import Copied


async def copy(con: Connection, table: str, rows: Copied) -> None:
    """Copy rows into a table."""

    async def pieces() -> AsyncIterator[bytes]:
        yield HEADER
        for piece in rows.pieces:
            yield piece
        yield TRAILER

    if rows.pieces:
        await con.copy_to_table(table, source=pieces(), columns=rows.columns, format="binary")


async def copy_over(con: Connection, table: str, rows: Copied, conflict: str, returning: str = "") -> list[bytes]:
    """Insert rows by way of a temporary table, which is the only way for COPY to meet rows that exist.

    Returns
    -------
    list of bytes
        The ids of the rows that were inserted, when `returning` is ``RETURNING _id``.
    """
    if not rows.pieces:
        return []
    staged, columns = f"staged_{table}", ", ".join(rows.columns)
    await con.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    await copy(con, staged, rows)
    found = await con.fetch(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged} ON CONFLICT {conflict} {returning}"  # noqa: S608
    )
    return [row["_id"].bytes for row in found]
