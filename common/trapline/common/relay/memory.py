"""What a relay must not forget: acknowledgements of groups and safe positions of named readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgpack

from trapline.common.relay.groups import Groups, Share
from trapline.common.relay.groups import Key as ShareKey
from trapline.common.relay.readers import Readers
from trapline.schemas.packing import pack

_TABLES = """
create table if not exists share (
  grp text not null, channel text not null, partition text not null, floor integer not null, done blob not null,
  epoch integer not null default -1, primary key (grp, channel, partition)) without rowid;
create table if not exists reader (
  name text not null, channel text not null, partition text not null, seq integer not null, safe integer not null,
  primary key (name, channel, partition)) without rowid;
"""
_SHARES = "select grp, channel, partition, floor, done, epoch from share"


class RelayMemory:
    """A small SQLite file. Commits outlive `kill -9`; a power cut may undo the last ones, which delivers again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._con = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._con.execute("pragma journal_mode = wal")
        self._con.execute("pragma synchronous = normal")
        self._con.executescript(_TABLES)
        if "epoch" not in {name for _, name, *_ in self._con.execute("pragma table_info(share)")}:
            self._con.execute("alter table share add column epoch integer not null default -1")

    def load(self, groups: Groups, readers: Readers) -> None:
        """Fill groups and readers with what was stored."""
        for *key, floor, done, epoch in self._con.execute(_SHARES):
            group, channel, partition = key
            groups.restore((group, channel, partition), floor, msgpack.unpackb(done), epoch)
        for name, channel, partition, seq, safe in self._con.execute("select * from reader"):
            readers.report(name, channel, partition, seq, safe)
        list(readers.take_dirty())

    def save(
        self, shares: Iterable[tuple[ShareKey, Share]], positions: Iterable[tuple[str, str, str, int, int]]
    ) -> None:
        """Store what changed, in one transaction; `sqlite3.Error` when the disk does not take it."""
        rows = [(*key, share.floor, pack(sorted(share.done)), share.epoch) for key, share in shares]
        reads = list(positions)
        if not rows and not reads:
            return
        with self._con:
            self._con.execute("begin immediate")
            self._con.executemany("replace into share values (?, ?, ?, ?, ?, ?)", rows)
            self._con.executemany("replace into reader values (?, ?, ?, ?, ?)", reads)

    def forget(self, name: str) -> None:
        """Forget a group or a reader; `sqlite3.Error` when the disk does not take it."""
        with self._con:
            self._con.execute("begin immediate")
            self._con.execute("delete from share where grp = ?", (name,))
            self._con.execute("delete from reader where name = ?", (name,))

    def close(self) -> None:
        """Close the file."""
        self._con.close()
