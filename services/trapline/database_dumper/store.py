"""One transaction: the rows of a batch, and how far the channels were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from trapline.common.postgres.connection import Connection
from trapline.common.relay.requests import Cursor
from trapline.common.store.bins import POSTGRES_EPOCH_US
from trapline.database_dumper import event_rows, image_rows, triage_rows
from trapline.database_dumper.binning import Binning, Held, tiers
from trapline.database_dumper.copying import copy, copy_over
from trapline.database_dumper.core import RecordRows, Row, Tables, tables_of
from trapline.database_dumper.intervals import Interval, intervals_of_a_batch, is_closed, partitions_beside
from trapline.database_dumper.late_points import store_late
from trapline.database_dumper.partitions import make_partitions
from trapline.database_dumper.values import as_uuid, position_id
from trapline.schemas.columns import array_to_ids
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
    con: Connection,
    reader: str,
    records: Sequence[RecordRows],
    positions: Sequence[Cursor] = (),
    binning: Binning | None = None,
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
    binning
        Open bins of the batches before; without it they are read back.
    """
    binning = binning or Binning()
    held: dict[UUID, Held] = {}
    async with con.transaction():
        await con.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", reader)
        committed = {(c.channel, c.partition): c for c in await read_positions(con, reader)}
        fresh = [r for r in records if not _is_stored(r.place, committed.get((r.place.channel, r.place.partition)))]
        if fresh:
            held = await write_rows(con, fresh, binning)
        await _write_positions(con, reader, positions or _behind(fresh))
    binning.remember(held)
    return len(fresh)


def _is_stored(place: Place, committed: Cursor | None) -> bool:
    # Numbers begin anew in a new epoch where its writer lost some: the epoch counts first.
    return committed is not None and (place.epoch, place.seq) < (committed.epoch, committed.seq)


def _behind(records: Sequence[RecordRows]) -> list[Cursor]:
    places = [r.place for r in records]
    last = {(p.channel, p.partition): Cursor(p.channel, p.partition, p.seq + 1, p.epoch) for p in places}
    return list(last.values())


async def write_rows(con: Connection, records: Sequence[RecordRows], binning: Binning) -> dict[UUID, Held]:
    """Write all tables in a transaction that is open, and return the open bins after it."""
    closed, since = await intervals_of_a_batch(con), await tiers(con)
    blocks = [r.block for r in records if r.block is not None and len(r.block.points["kind"])]
    late = {t for t in {block.t for block in blocks} if _is_late(t + POSTGRES_EPOCH_US, closed, since)}
    tables = tables_of(records, late)
    await con.executemany("INSERT INTO dataset (_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", tables.datasets)
    held = await binning.lock(con, blocks)
    await _write_facts(con, tables)
    in_time = [block for block in blocks if block.t not in late]
    width = round(binning.config.point_partition_s * 1e6)
    times, beside = sorted({block.t + POSTGRES_EPOCH_US for block in in_time}), partitions_beside(closed)
    await make_partitions(con, "point", width, times, beside)
    new = await _copy_points(con, tables)
    if late:
        added = await store_late(con, binning.config, [block for block in blocks if block.t in late], since)
        new = added.union(*(array_to_ids(b.points["point_id"]) for b in in_time)) if new is None else added | new
    return await binning.add(con, held, blocks, new)


def _is_late(t_us: int, closed: Sequence[Interval], since: Mapping[str, int]) -> bool:
    return t_us < since["point"] or is_closed(closed, t_us)


async def _write_facts(con: Connection, tables: Tables) -> None:
    await _insert(con, "image", image_rows.COLUMNS, tables.images, "NOTHING")
    await _insert(con, "image_limit", image_rows.LIMIT_COLUMNS, tables.limits, "NOTHING")
    await copy_over(con, "object", tables.objects, _RENEW_OBJECT)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in tables.states.columns if name not in _KEYS)
    await copy_over(con, "object_state", tables.states, f"(object, band) DO UPDATE SET {renewed}")
    await con.executemany("UPDATE object SET parent = $2 WHERE _id = $1", tables.parents)
    await con.executemany("UPDATE object SET retired = true WHERE _id = $1", tables.retired)
    renewed = ", ".join(f"{name} = excluded.{name}" for name in event_rows.RENEWED)
    await _insert(con, "transient", event_rows.COLUMNS, tables.events, f"UPDATE SET {renewed}")
    await _insert(con, "triage", triage_rows.COLUMNS, tables.verdicts, "NOTHING")


async def _insert(con: Connection, table: str, columns: Sequence[str], rows: Sequence[Row], do: str) -> None:
    values = ", ".join(f"${i + 1}" for i in range(len(columns)))
    into = f"{table} ({', '.join(columns)})"
    await con.executemany(f"INSERT INTO {into} VALUES ({values}) ON CONFLICT (_id) DO {do}", rows)  # noqa: S608


async def _copy_points(con: Connection, tables: Tables) -> set[bytes] | None:
    """Copy points straight into their table; where one is there already, the first of its id stays.

    Returns
    -------
    set of bytes or None
        Ids of the points that were not there before; None when all were not.
    """
    try:
        async with con.transaction():
            await copy(con, "point", tables.points)
    except asyncpg.UniqueViolationError:
        # A writer that lost its unsynced tail in a power cut says again, in a new epoch, what it had said.
        return set(await copy_over(con, "point", tables.points, "(_id, t) DO NOTHING", "RETURNING _id"))
    return None


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
