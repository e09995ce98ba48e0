"""One transaction: the rows of a batch, and how far the channels were read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import asyncpg

from trapline.common.postgres.connection import Connection
from trapline.common.relay.requests import Cursor
from trapline.database_dumper import event_rows, image_rows, triage_rows
from trapline.database_dumper.binary_copy import HEADER, TRAILER
from trapline.database_dumper.core import Copied, RecordRows, Row, Tables, tables_of
from trapline.database_dumper.values import as_uuid, position_id
from trapline.schemas.header import Place

# An object's position and its time of last detection are renewed only where they changed: the index on the position is
# not touched for forced points.
_RENEW_OBJECT = """
(_id) DO UPDATE SET ra_deg = excluded.ra_deg, dec_deg = excluded.dec_deg,
    pos_err_ew_deg = excluded.pos_err_ew_deg, pos_err_ns_deg = excluded.pos_err_ns_deg,
    last_seen = greatest(object.last_seen, excluded.last_seen)
WHERE (object.ra_deg, object.dec_deg, object.pos_err_ew_deg, object.pos_err_ns_deg)
    IS DISTINCT FROM (excluded.ra_deg, excluded.dec_deg, excluded.pos_err_ew_deg, excluded.pos_err_ns_deg)
    OR excluded.last_seen > object.last_seen
"""
_KEYS = {"_id", "object", "band"}


async def read_positions(con: Connection, reader: str) -> list[Cursor]:
    """Return how far a reader has stored each partition."""
    rows = await con.fetch("SELECT channel, partition, seq, epoch FROM reader_position WHERE reader = $1", reader)
    return [Cursor(**dict(row)) for row in rows]


async def store_batch(
    con: Connection, reader: str, records: Sequence[RecordRows], positions: Sequence[Cursor] = ()
) -> int:
    """Store records and read positions, all or nothing, and return how many records were new.

    Parameters
    ----------
    con
        A connection that is not in a transaction.
    reader
        Whose positions these are. One reader stores at a time.
    records
        Rows, in the order of reading. What a committed position already covers is left out.
    positions
        Behind the records. Without them, those behind the last record of each partition. None moves backwards.
    """
    async with con.transaction():
        await con.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", reader)
        committed = {(c.channel, c.partition): c for c in await read_positions(con, reader)}
        fresh = [r for r in records if not _is_stored(r.place, committed.get((r.place.channel, r.place.partition)))]
        if fresh:
            await _write(con, tables_of(fresh))
        await _write_positions(con, reader, positions or _behind(fresh))
    return len(fresh)


def _is_stored(place: Place, committed: Cursor | None) -> bool:
    # Numbers begin anew in a new epoch where its writer lost some: the epoch counts first.
    return committed is not None and (place.epoch, place.seq) < (committed.epoch, committed.seq)


def _behind(records: Sequence[RecordRows]) -> list[Cursor]:
    places = [r.place for r in records]
    last = {(p.channel, p.partition): Cursor(p.channel, p.partition, p.seq + 1, p.epoch) for p in places}
    return list(last.values())


async def _write(con: Connection, tables: Tables) -> None:
    await con.executemany("INSERT INTO dataset (_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", tables.datasets)
    await _insert(con, "image", image_rows.COLUMNS, tables.images, "NOTHING")
    await _copy_over(con, "object", tables.objects, _RENEW_OBJECT)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in tables.states.columns if name not in _KEYS)
    await _copy_over(con, "object_state", tables.states, f"(object, band) DO UPDATE SET {renewed}")
    await _copy_points(con, tables.points)
    await con.executemany("UPDATE object SET parent = $2 WHERE _id = $1", tables.parents)
    await con.executemany("UPDATE object SET retired = true WHERE _id = $1", tables.retired)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in event_rows.RENEWED)
    await _insert(con, "transient", event_rows.COLUMNS, tables.events, f"UPDATE SET {renewed}")
    await _insert(con, "triage", triage_rows.COLUMNS, tables.verdicts, "NOTHING")


async def _insert(con: Connection, table: str, columns: Sequence[str], rows: Sequence[Row], do: str) -> None:
    values = ", ".join(f"${i + 1}" for i in range(len(columns)))
    into = f"{table} ({', '.join(columns)})"
    await con.executemany(f"INSERT INTO {into} VALUES ({values}) ON CONFLICT (_id) DO {do}", rows)  # noqa: S608


async def _copy_points(con: Connection, points: Copied) -> None:
    """Copy points straight into their table; where one is there already, the first of its id stays."""
    try:
        async with con.transaction():
            await _copy(con, "point", points)
    except asyncpg.UniqueViolationError:
        # A writer that lost its unsynced tail in a power cut says again, in a new epoch, what it had said.
        await _copy_over(con, "point", points, "(_id) DO NOTHING")


async def _copy_over(con: Connection, table: str, rows: Copied, conflict: str) -> None:
    """Insert rows by way of a temporary table, which is the only way for COPY to meet rows that exist."""
    if not rows.pieces:
        return
    staged, columns = f"staged_{table}", ", ".join(rows.columns)
    await con.execute(
        f"CREATE TEMP TABLE IF NOT EXISTS {staged} (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
    )
    await _copy(con, staged, rows)
    await con.execute(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged} ON CONFLICT {conflict}"  # noqa: S608
    )


async def _copy(con: Connection, table: str, rows: Copied) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield HEADER
        for piece in rows.pieces:
            yield piece
        yield TRAILER

    if rows.pieces:
        await con.copy_to_table(table, source=pieces(), columns=rows.columns, format="binary")


async def _write_positions(con: Connection, reader: str, positions: Sequence[Cursor]) -> None:
    rows = [
        (as_uuid(position_id(reader, c.channel, c.partition)), reader, c.channel, c.partition, c.epoch, c.seq)
        for c in positions
    ]
    await con.executemany(
        """
        INSERT INTO reader_position (_id, reader, channel, partition, epoch, seq) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (reader, channel, partition) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
        WHERE (reader_position.epoch, reader_position.seq) < (excluded.epoch, excluded.seq)
        """,
        rows,
    )
