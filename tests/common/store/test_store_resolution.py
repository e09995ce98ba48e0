"""A lightcurve at any resolution is that of all its points, binned or not yet, kept or no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import lightcurve_messages as mesh
from bins_of_messages import assert_same, expected, records, some_days
from bins_of_messages import lightcurve as points_at
from trapline.common.postgres.connection import Connection, open_database
from trapline.common.store import Lightcurve, Window, lightcurve
from trapline.common.store.bins import WIDTHS_US
from trapline.database_dumper.binning import Binning
from trapline.database_dumper.config import DumperConfig
from trapline.database_dumper.partitions import moment
from trapline.database_dumper.retention import maintain
from trapline.database_dumper.store import store_batch
from trapline.schemas.lightcurves import Fork

DAY = WIDTHS_US["day"]


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    async with open_database(dsn) as database, database.connection() as lent:
        yield lent


def bins_in(curve: Lightcurve) -> dict[Any, Any]:
    columns = curve.columns
    names = ("flux_int", "flux_int_err", "flux_min", "flux_max", "chi2", "n_points", "n_forced")
    return {
        (curve.object_id, curve.bands[columns["band"][i]], int(columns["t"][i])): tuple(columns[n][i] for n in names)
        for i in range(len(curve))
    }


def only(bins: dict[Any, Any], target: bytes, band: str | None = None) -> dict[Any, Any]:
    return {key: value for key, value in bins.items() if key[0] == target and band in (None, key[1])}


@pytest.mark.parametrize("tier", sorted(WIDTHS_US))
async def test_bins_and_what_is_not_binned_yet_are_one_lightcurve(con: Connection, tier: str) -> None:
    messages, target = some_days(), mesh.object_ids(6)[0]
    for end in (1, 30, 70, len(messages)):
        await store_batch(con, "test", records(messages[:end]))
        wanted = expected(messages[:end], tier)
        assert_same(bins_in(await lightcurve(con, target, None, Window(), tier)), only(wanted, target))
    curve = await lightcurve(con, target, "b", Window(), tier)
    assert_same(bins_in(curve), only(wanted, target, "b"))
    assert set(curve.columns["width_s"]) == {WIDTHS_US[tier] / 1e6} and (np.diff(curve.columns["t"]) > 0).all()


async def test_bins_that_begin_in_a_window_are_whole(con: Connection) -> None:
    messages, target = some_days(), mesh.object_ids(6)[0]
    await store_batch(con, "test", records(messages))
    for tier, width in WIDTHS_US.items():
        wanted = only(expected(messages, tier), target)
        times = sorted({key[2] for key in wanted})
        for since, until in ((times[0] + 1, times[-1] + 1), (times[1], times[-1]), (times[-1] - width, times[-1] + 1)):
            found = bins_in(await lightcurve(con, target, None, Window(moment(since), moment(until)), tier))
            assert_same(found, {key: value for key, value in wanted.items() if since <= key[2] < until})


async def test_auto_is_the_finest_that_is_not_too_much(con: Connection) -> None:
    rng, (target,) = np.random.default_rng(1), mesh.object_ids(1)
    start = mesh.START_US // DAY * DAY
    messages = [points_at(start + i * 20_000_000, [target], rng) for i in range(400)]
    await store_batch(con, "test", records(messages))
    for most, width_s in ((1000, 0), (399, 60), (133, 3600), (2, 86_400), (0, 86_400)):
        curve = await lightcurve(con, target, None, Window(), "auto", most)
        assert set(curve.columns["width_s"]) == {width_s}, most
    window = Window(moment(start), moment(start + 3600 * 1_000_000))
    assert set((await lightcurve(con, target, None, window, "auto", 200)).columns["width_s"]) == {0}
    with pytest.raises(ValueError, match="no resolution 'second'; there are auto, point, minute, hour, day"):
        await lightcurve(con, target, None, Window(), "second")


async def test_a_child_has_the_bins_of_its_parent(con: Connection) -> None:
    rng, (root, left, right) = np.random.default_rng(2), mesh.object_ids(3)
    start = mesh.START_US // DAY * DAY
    messages = [points_at(start + i * 25_000_000, [root] if i < 7 else [left, right], rng,
                          **({"forks": [Fork(root, [left, right])]} if i == 7 else {})) for i in range(20)]  # fmt: skip
    await store_batch(con, "test", records(messages))
    curve = await lightcurve(con, left, None, Window(), "minute")
    assert curve.columns["n_points"].sum() == sum(np.isfinite(m.arrays["flux_int"][0]) for m in messages)
    at_fork = start + 2 * 60_000_000
    assert curve.columns["n_points"][curve.columns["t"] == at_fork] == 3, "a minute of both"


async def test_where_points_are_gone_bins_stand_in_their_place(con: Connection) -> None:
    rng, (target,) = np.random.default_rng(3), mesh.object_ids(1)
    start = mesh.START_US // DAY * DAY + 4 * 60_000_000
    days = [points_at(start + d * DAY + s * 1_000_000, [target], rng) for d in range(40) for s in (0, 20, 3600)]
    binning = Binning(DumperConfig(keep_points_s=2 * 86_400, keep_minutes_s=30 * 86_400))
    await store_batch(con, "test", records(days), binning=binning)
    before = await lightcurve(con, target)
    assert set(before.columns["width_s"]) == {0}
    await maintain(con, binning)
    after = await lightcurve(con, target)
    assert set(after.columns["width_s"]) == {0, 60, 3600} and (np.diff(after.columns["t"]) > 0).all()
    finite = np.isfinite(before.columns["flux_int"]).sum()
    assert np.where(np.isfinite(after.columns["flux_int"]), after.columns["n_points"], 0).sum() == finite
    for tier in WIDTHS_US:
        wanted = expected(days, tier)
        found = bins_in(await lightcurve(con, target, None, Window(), tier))
        assert sum(row[5] for row in found.values()) == sum(row[5] for row in wanted.values())
    recent = await lightcurve(con, target, None, Window(moment(start + 39 * DAY) - timedelta(hours=1)))
    assert set(recent.columns["width_s"]) == {0}
