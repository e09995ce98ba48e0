"""A row that cannot be stored costs its object this record, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

import lightcurve_messages as mesh
from trapline.common.channel import Record
from trapline.common.postgres.connection import open_database
from trapline.common.relay.requests import Cursor
from trapline.database_dumper.service import LightcurveStore
from trapline.schemas.message import Message, encode

OBJECTS = mesh.object_ids(9)


def record(message: Message[Any], seq: int = 0, channel: str = "lightcurves") -> Record:
    return Record(mesh.place(channel, seq), 0, [bytes(frame) for frame in encode(message)])


def spoilt(message: Message[Any], column: str, rows: list[int], value: float) -> Message[Any]:
    """Return a record in which some rows of a column hold what cannot be stored."""
    arrays = {name: np.array(array) for name, array in message.arrays.items()}
    arrays[column][rows] = value
    return replace(message, arrays=arrays)


@pytest.mark.parametrize(
    ("column", "value"),
    [("first_seen_us", 1 << 62), ("states.last_seen_us", -(1 << 62)), ("object_ra_deg", 1e9)],
    ids=["time", "state", "position"],
)
async def test_all_other_objects_of_a_record_are_stored(dsn: str, column: str, value: float) -> None:
    good, bad = mesh.lightcurves_message(0, OBJECTS), [2, 7]
    async with open_database(dsn) as database:
        counters: Counter[str] = Counter()
        store = LightcurveStore(database, "dumper", counters=counters)
        whole = record(spoilt(good, column, bad, value))
        behind = [Cursor("lightcurves", "0", 1, 0)]
        async with database.connection() as con:
            # As an operator may have one: errors of the server are found as those of our own.
            await con.execute("ALTER TABLE object ADD CHECK (ra_deg < 1000)")
        with pytest.raises((ValueError, asyncpg.CheckViolationError)):
            await store.store([whole], behind)
        mended = await store.mended(whole)
        assert mended is not None
        refused = {OBJECTS[k] for k in bad}
        assert {line.split(":")[0] for line in mended[1].splitlines()} == {f"object {UUID(bytes=i)}" for i in refused}
        async with database.connection() as con:
            assert await con.fetchval("SELECT count(*) FROM object") == 0, "trials leave nothing"
        await store.store([mended[0]], behind)
        async with database.connection() as con:
            for table, key in (("object", "_id"), ("point", "object"), ("object_state", "object")):
                rows = await con.fetch(f"SELECT {key} AS key FROM {table}")
                assert {row["key"].bytes for row in rows} == set(OBJECTS) - refused, table
            assert await con.fetchval("SELECT seq FROM reader_position") == 1
            assert await con.fetchval("SELECT count(*) FROM binning") == 1
        assert counters["objects_refused"] == 2
        # The stream goes on, with the objects that were refused.
        await store.store([record(mesh.lightcurves_message(1, OBJECTS), 1)], [Cursor("lightcurves", "0", 2, 0)])
        async with database.connection() as con:
            assert await con.fetchval("SELECT count(*) FROM point") == 16


async def test_a_record_that_is_wrong_as_a_whole_or_has_no_rows_is_not_mended(dsn: str) -> None:
    async with open_database(dsn) as database:
        store = LightcurveStore(database, "dumper")
        good = mesh.lightcurves_message(0, OBJECTS)
        assert await store.mended(record(good)) is None, "nothing is wrong with it"
        every = spoilt(good, "first_seen_us", list(range(9)), 1 << 62)
        mended = await store.mended(record(every))
        assert mended is not None
        assert len(mended[1].splitlines()) == 9
        assert await store.mended(record(mesh.event(0, OBJECTS[0]), channel="transients")) is None
        many = mesh.object_ids(150)
        hopeless = spoilt(mesh.lightcurves_message(0, many), "first_seen_us", list(range(150)), 1 << 62)
        assert await store.mended(record(hopeless)) is None
