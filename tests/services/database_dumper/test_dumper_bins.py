"""Bins are what all points at once would give, however they came and whatever died meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import lightcurve_messages as mesh
from bins_of_messages import assert_same, expected, lightcurve, marks, records, some_days, stored
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.store.bins import BIN, WIDTHS_US, bins_of_points, halves, ids_of, merged
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.core import RecordRows, rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import ids_to_array
from trapline.schemas.message import Message

MINUTE, HOUR, DAY = WIDTHS_US.values()
READER = "test"


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    async with open_database(dsn) as database, database.connection() as lent:
        yield lent


async def everything_is_binned(con: Connection, messages: list[Message[Any]]) -> None:
    """Stored bins are the points before the mark of their tier."""
    closed = await marks(con)
    for tier in WIDTHS_US:
        assert_same(await stored(con, tier), expected(messages, tier, closed[tier]))


@pytest.mark.parametrize("remembering", [True, False], ids=["in memory", "read back"])
async def test_bins_are_those_of_all_points(con: Connection, remembering: bool) -> None:
    messages, rng = some_days(), np.random.default_rng(3)
    binning = Binning()
    cuts = [0, *sorted(int(c) for c in rng.choice(len(messages), 12, replace=False)), len(messages)]
    for first, end in pairwise(cuts):
        batch = records(messages[first:end], first)
        await store_batch(con, READER, batch, binning=binning if remembering else None)
        await everything_is_binned(con, messages[:end])
    assert len(await stored(con, "day")) == len(expected(messages, "day", (await marks(con))["day"])) > 6
    assert await con.fetchval("SELECT count(*) FROM binning") == 1


async def test_two_dumpers_in_turn_bin_each_point_once(con: Connection) -> None:
    messages, both = some_days(2), [Binning(), Binning()]
    for i in range(0, len(messages), 5):
        await store_batch(con, f"reader {i % 2}", records(messages[i : i + 5], i), binning=both[i % 2])
    await everything_is_binned(con, messages)


async def test_a_batch_that_is_rolled_back_leaves_memory_as_it_was(con: Connection) -> None:
    messages, binning = some_days(3), Binning()
    await store_batch(con, READER, records(messages[:30]), binning=binning)
    await con.execute("ALTER TABLE transient RENAME TO hidden")
    batch = [*records(messages[30:60], 30), rows_of(mesh.place("transients", 0), mesh.event(0, mesh.object_ids(1)[0]))]
    with pytest.raises(Exception, match="transient"):
        await store_batch(con, READER, batch, binning=binning)
    await con.execute("ALTER TABLE hidden RENAME TO transient")
    await everything_is_binned(con, messages[:30])
    await store_batch(con, READER, batch, binning=binning)
    await everything_is_binned(con, messages[:60])


async def test_points_that_are_said_again_are_binned_once(con: Connection) -> None:
    messages, binning = some_days(4), Binning()
    await store_batch(con, READER, records(messages), binning=binning)
    again = [RecordRows(mesh.place("lightcurves", i, epoch=1), r.dataset, r.image, r.block)
             for i, r in enumerate(records(messages[::3]))]  # fmt: skip
    assert await store_batch(con, READER, again, binning=binning) == len(again)
    await everything_is_binned(con, messages)


async def test_an_image_of_the_far_future_closes_nothing(con: Connection) -> None:
    rng, objects = np.random.default_rng(5), mesh.object_ids(3)
    binning = Binning(now_us=lambda: mesh.START_US)
    messages = [lightcurve(mesh.START_US + i * MINUTE, objects, rng) for i in range(3)]
    future = lightcurve(mesh.START_US + 70 * 365 * DAY, objects, rng)
    await store_batch(con, READER, records([*messages[:1], future, *messages[1:]]), binning=binning)
    assert (await marks(con))["minute"] <= mesh.START_US + DAY
    await everything_is_binned(con, [*messages, future])


async def test_datasets_have_their_own_clock(con: Connection) -> None:
    rng, objects = np.random.default_rng(6), mesh.object_ids(3)
    now = [lightcurve(mesh.START_US + i * MINUTE, objects, rng) for i in range(5)]
    old = [
        lightcurve(mesh.START_US - 500 * DAY + i * MINUTE, mesh.object_ids(2, 7), rng, dataset="old") for i in range(5)
    ]
    mixed = [message for pair in zip(now, old, strict=True) for message in pair]
    await store_batch(con, READER, records(mixed))
    rows = await con.fetch("SELECT minute FROM binning ORDER BY minute")
    assert (rows[1]["minute"] - rows[0]["minute"]).days in (499, 500)
    assert len(await stored(con, "minute")) == len(expected(now[:3], "minute")) + len(expected(old[:3], "minute"))


async def test_a_minute_waits_for_its_last_points(con: Connection) -> None:
    rng, objects = np.random.default_rng(7), mesh.object_ids(2)
    start = mesh.START_US // MINUTE * MINUTE
    for grace, closed in ((30.0, 0), (0.0, 1)):
        binning = Binning(DumperConfig(bin_grace_s=grace))
        await con.execute("TRUNCATE point, bin_minute, binning, reader_position")
        await store_batch(con, READER, records([lightcurve(start + s * 1_000_000, objects, rng) for s in (0, 59, 60)]),
                          binning=binning)  # fmt: skip
        assert await con.fetchval("SELECT count(DISTINCT t) FROM bin_minute") == closed


def random_points(rng: np.random.Generator, n: int, snr: float) -> np.ndarray:
    objects = ids_to_array(mesh.object_ids(5))[rng.integers(0, 5, n)]
    flux = 1e3 + rng.normal(0, 1, n) * 1e3 / snr
    return bins_of_points(objects, rng.integers(0, 2, n), rng.integers(0, 3 * HOUR, n), flux,
                          np.full(n, 1e3 / snr), rng.random(n) < 0.3)  # fmt: skip


@pytest.mark.parametrize("snr", [5.0, 1e6], ids=["faint", "bright"])
def test_merging_in_any_pieces_is_merging_at_once(snr: float) -> None:
    rng = np.random.default_rng(8)
    points = random_points(rng, 3000, snr)
    at_once = merged([points], HOUR)
    by_minutes = merged([merged([part], MINUTE) for part in np.array_split(rng.permutation(points), 7)], HOUR)
    assert (at_once["n"] == by_minutes["n"]).all() and at_once["n"].sum() == 3000
    for name in ("weight", "flux_mean", "chi2", "flux_min", "flux_max"):
        np.testing.assert_allclose(by_minutes[name], at_once[name], rtol=1e-9)
    assert 0.8 < (at_once["chi2"] / (at_once["n"] - 1)).mean() < 1.2


def test_what_has_no_weight_is_no_point() -> None:
    flux = np.array([1.0, np.nan, np.inf, 2.0, 3.0, 4.0, 5.0, 6.0])
    error = np.array([1.0, 1.0, 1.0, 0.0, -1.0, np.nan, np.inf, 1e-300])
    rows = bins_of_points(ids_to_array(mesh.object_ids(8)), 0, 0, flux, error, np.zeros(8, bool))
    assert rows["flux_mean"].tolist() == [1.0]
    assert len(merged([], MINUTE)) == len(merged([np.zeros(0, BIN)], MINUTE)) == 0


def test_an_id_is_its_halves() -> None:
    ids = np.random.default_rng(9).integers(0, 256, (20, 16)).astype(np.uint8)
    rows = np.zeros(20, BIN)
    rows["high"], rows["low"] = halves(ids).T
    assert (ids_of(rows) == ids).all()
