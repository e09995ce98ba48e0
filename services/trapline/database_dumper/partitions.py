"""Partitions by time: made before rows need them, dropped as a whole when they are old."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from trapline.common.postgres.connection import Connection
from trapline.database_dumper.binary_copy import MAX_T_US, MIN_T_US

DAY_US = 86_400_000_000
BIN_WIDTHS_US: Mapping[str, int] = MappingProxyType(
    {"bin_minute": 30 * DAY_US, "bin_hour": 360 * DAY_US, "bin_day": 3600 * DAY_US}
)
"""Widths of the partitions of bins: as many rows each as in a day of points at one image a second, or fewer."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUNDS = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")
_LOCK = 0x7472617069
_PARTITIONS = """
SELECT relname, pg_get_expr(relpartbound, pg_class.oid) AS bounds, inhdetachpending AS leaving
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = $1::text::regclass
"""

_LOOSE = """
SELECT relname FROM pg_class
WHERE relname ~ $1 AND relkind = 'r' AND NOT relispartition AND relnamespace = 'public'::regnamespace
"""


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """Rows from `start` up to but not including `end`, in microseconds since 1970."""

    start: int
    end: int
    name: str = ""
    leaving: bool = False
    """detaching it was interrupted"""


async def partitions_of(con: Connection, table: str) -> list[Partition]:
    """Return the partitions of a table, in the order of time."""
    found = []
    for row in await con.fetch(_PARTITIONS, table):
        match = _BOUNDS.search(row["bounds"])
        assert match, f"partition {row['relname']} has no bounds: {row['bounds']}"
        start, end = (_read(text) for text in match.groups())
        found.append(Partition(start, end, row["relname"], row["leaving"]))
    return sorted(found)


async def make_partitions(
    con: Connection,
    table: str,
    width_us: int,
    times: Iterable[int],
    beside: Iterable[Partition] = (),
    unsampled: Sequence[str] = (),
) -> list[Partition]:
    """Make the partitions in which some times lie, in the transaction of whoever needs them; return all there are.

    Readers are not held up: a table is made first and attached then. Of two who want the same, the second waits.
    New ones do not reach into times that are those of others, or of `beside`. The server makes no statistics of columns
    that are `unsampled`.
    """
    known = await partitions_of(con, table)
    wanted = [t for t in times if not _holding(known, t)]
    if not wanted:
        return known
    await con.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    known = await partitions_of(con, table)
    for t_us in wanted:
        if not _holding(known, t_us):
            new = fitting([*known, *beside], table, width_us, t_us)
            await con.execute(f"CREATE TABLE {new.name} (LIKE {table} INCLUDING ALL)")
            if unsampled:
                changes = ", ".join(f"ALTER COLUMN {column} SET STATISTICS 0" for column in unsampled)
                await con.execute(f"ALTER TABLE {new.name} {changes}")
            await con.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {new.name} "
                f"FOR VALUES FROM ('{_text(new.start)}') TO ('{_text(new.end)}')"
            )
            known = sorted([*known, new])
    return known


def fitting(known: Iterable[Partition], table: str, width_us: int, t_us: int) -> Partition:
    """Return the partition to be made for a time: of a width, cut where others are in its way.

    So the width may be changed at any time.
    """
    start = t_us // width_us * width_us
    end = start + width_us
    for other in known:
        if other.end <= t_us:
            start = max(start, other.end)
        elif other.start > t_us:
            end = min(end, other.start)
    digits = re.sub(r"\D", "", moment(max(start, MIN_T_US)).isoformat(timespec="seconds"))
    return Partition(start, end, f"{table}_{digits[:8]}_{digits[8:14]}")


async def drop_partitions(con: Connection, table: str, before_us: int, names: Collection[str] = ()) -> int:
    """Drop the partitions that end at or before a time, or have a name; return how many. Not inside a transaction.

    They are detached first, which waits for readers and makes none wait. What a killed process began is finished.
    """
    for partition in await partitions_of(con, table):
        if partition.end <= before_us or partition.leaving or partition.name in names:
            how = "FINALIZE" if partition.leaving else "CONCURRENTLY"
            await con.execute(f"ALTER TABLE {table} DETACH PARTITION {partition.name} {how}")
    loose = await con.fetch(_LOOSE, f"^{table}_([0-9]{{8}}_[0-9]{{6}}|first)$")
    for row in loose:
        await con.execute(f"DROP TABLE {row['relname']}")
    return len(loose)


def microseconds(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def moment(t_us: int) -> datetime:
    """Return microseconds since 1970 as a time."""
    return _EPOCH + timedelta(microseconds=t_us)


def _holding(known: Iterable[Partition], t_us: int) -> bool:
    return any(p.start <= t_us < p.end for p in known)


def _text(t_us: int) -> str:
    if t_us > MAX_T_US:
        return "infinity"
    return "-infinity" if t_us <= MIN_T_US else moment(t_us).isoformat(" ")


def _read(text: str) -> int:
    if text.endswith("infinity"):
        return MIN_T_US if text.startswith("-") else MAX_T_US + 1
    return microseconds(datetime.fromisoformat(text))
