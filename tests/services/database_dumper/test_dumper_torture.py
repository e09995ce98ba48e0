"""`kill -9` of the dumper and of PostgreSQL, again and again: points, segments and bins are those of a run without."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bins_of_messages import assert_same, expected, marks, some_days, stored
from mesh_runs import environment
from trapline.common.postgres import migrate
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.connection import open_database
from trapline.common.postgres.postmaster import live_postmaster, wait_until
from trapline.common.store.bins import WIDTHS_US
from trapline.common.testing.postgres import temporary_cluster
from trapline.schemas.columns import array_to_ids

TESTS = Path(__file__).parents[2]
SEED = 11


@contextmanager
def child(dsn: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "store_child", dsn, str(SEED)]
    process = subprocess.Popen(command, cwd=TESTS, env=environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill_server(cluster: Cluster) -> None:
    postmaster = live_postmaster(cluster.data)
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGKILL)
    assert wait_until(lambda: not cluster.is_running(), 20)
    assert cluster.start()


@pytest.mark.timeout(400)
def test_kills_of_dumper_and_server_change_no_point_and_no_bin() -> None:
    messages, random, kills = some_days(SEED), np.random.default_rng(SEED), 0
    with temporary_cluster(durable=True) as cluster:
        migrate.upgrade(cluster.dsn())
        done = 0
        while done < len(messages):
            with child(cluster.dsn()) as process:
                assert process.stdout is not None
                until = done + int(random.integers(1, 25))
                for line in process.stdout:
                    done = int(line.split()[1])
                    if done >= until and done < len(messages):
                        kills += 1
                        if random.random() < 0.5:
                            break  # the child is killed in the midst of the next record
                        kill_server(cluster)
                        until = done + int(random.integers(1, 25))
        assert kills >= 5
        asyncio.run(check(cluster.dsn()))


async def check(dsn: str) -> None:
    messages = some_days(SEED)
    async with open_database(dsn) as database, database.connection() as con:
        said = [(m.arrays["point_id"], m.arrays["flux_int"]) for m in messages]
        points = {i: f for ids, flux in said for i, f in zip(array_to_ids(ids), flux, strict=True)}
        rows = await con.fetch("SELECT _id, flux_int FROM measurement")
        assert len(rows) == len(points), "nothing lost, nothing twice"
        stored_fluxes = {row["_id"].bytes: row["flux_int"] for row in rows}
        np.testing.assert_equal(stored_fluxes, points)
        states = dict(await con.fetch("SELECT state, count(*) FROM closed_interval GROUP BY state"))
        assert states.get(2, 0) > 0, "intervals are closed, and their partitions dropped, while all this goes on"
        assert await con.fetchval("SELECT count(*) FROM segment WHERE late") > 0
        assert await con.fetchval("SELECT count(*) FROM point") < len(points) / 2
        closed = await marks(con)
        for tier in WIDTHS_US:
            assert_same(await stored(con, tier), expected(messages, tier, closed[tier]))
