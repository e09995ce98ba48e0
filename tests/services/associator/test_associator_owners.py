"""Two associators that own the same cells: the second one does not begin, and says why."""

import asyncio
import contextlib

import pytest

from trapline.associator.service import run
from trapline.common.config import ConfigError
from trapline.common.runtime.daemon import open_context
from trapline.common.testing.relay import mesh_config, running_relay
from waiting import until

HALVES = [{"owner": "north.0", "cells": "0/0-5"}, {"owner": "south.0", "cells": "0/6-11"}]
FAST = {"heartbeat_s": 0.2}


def config_of(tmp_path, **associator):
    return mesh_config(tmp_path, associator=associator, runtime=FAST)


@contextlib.asynccontextmanager
async def associating(config, replica):
    """Run an associator; yield its context and its work, which may end by itself."""
    async with open_context("associator", config, replica) as context:
        work = asyncio.create_task(run(context))
        yield context, work
        context.draining.set()
        with contextlib.suppress(ConfigError):
            await asyncio.wait_for(work, 20)


@pytest.mark.parametrize(
    ("first", "second", "replica", "why"),
    [
        ({}, {}, "south.0", "associator 'north.0' on .* each owns the whole sky"),
        ({}, {"regions": HALVES[1:]}, "south.0", "names no region of it, but of south.0"),
        ({"regions": HALVES}, {"regions": HALVES, "expiration": 7}, "south.0", r"another \[associator\] table"),
        ({"regions": HALVES}, {"regions": HALVES}, "east.0", "associator 'east.0' owns no region"),
    ],
)
async def test_who_owns_what_another_one_owns_does_not_begin(tmp_path, first, second, replica, why):
    with running_relay(config_of(tmp_path)):
        async with associating(config_of(tmp_path, **first), "north.0") as (one, _):
            await until(lambda: one.state == "running")
            async with associating(config_of(tmp_path, **second), replica) as (_, work):
                with pytest.raises(ConfigError, match=why):
                    await asyncio.wait_for(work, 20)


async def test_owners_of_disjoint_regions_and_of_what_a_dead_one_owned_begin(tmp_path):
    halves, whole = config_of(tmp_path, regions=HALVES), config_of(tmp_path)
    with running_relay(whole):
        async with associating(halves, "north.0") as (one, _), associating(halves, "south.0") as (other, _):
            await until(lambda: one.counters["objects"] == 0 and "objects" in one.counters)
            await until(lambda: "objects" in other.counters)
        # Both have said that they stopped: another one may have the whole sky.
        async with associating(whole, "east.0") as (last, _):
            await until(lambda: "objects" in last.counters)
