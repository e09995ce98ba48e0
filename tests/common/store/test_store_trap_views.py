"""Queries as users of TraP have them in their notebooks, on the views of the same names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import lightcurve_messages as mesh
from trapline.common.postgres.connection import Connection, open_database
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind

LIGHTCURVE = """
SELECT im.taustart_ts, im.tau_time, ex.f_int, ex.f_int_err, ex.extract_type, fb.freq_central, ax.v_int, ax.eta_int
FROM extractedsource AS ex, assocxtrsource AS ax, image AS im, frequencyband AS fb, skyregion AS sr
WHERE ax.runcat = $1 AND ax.xtrsrc = ex.id AND ex.image = im.id AND im.band = fb.id AND im.skyrgn = sr.id
ORDER BY im.taustart_ts
"""
VARIABLES = """
SELECT rc.id, rc.wm_ra, rc.wm_decl, rc.datapoints, vm.v_int, vm.eta_int, vm.lightcurve_max, fb.freq_central
FROM runningcatalog AS rc JOIN varmetric AS vm ON vm.runcat = rc.id JOIN frequencyband AS fb ON fb.id = vm.band
JOIN dataset AS ds ON ds.id = rc.dataset
WHERE ds.description = 'default' AND rc.mon_src = false ORDER BY rc.id
"""
TRANSIENTS = """
SELECT ns.id, ns.newsource_type, ns.previous_limits_image, ex.f_int, rc.wm_ra
FROM newsource AS ns JOIN extractedsource AS ex ON ex.id = ns.trigger_xtrsrc
JOIN runningcatalog AS rc ON rc.id = ns.runcat
"""


@pytest.fixture
async def con(dsn: str) -> AsyncIterator[Connection]:
    async with open_database(dsn) as database, database.connection() as lent:
        yield lent


async def put(con: Connection, *messages: Any) -> None:
    await store_batch(con, "test", [rows_of(mesh.place("any", i), m) for i, m in enumerate(messages)])
    await con.execute("SET search_path TO trap, public")


async def test_a_lightcurve_as_it_was_queried(con: Connection) -> None:
    objects = mesh.object_ids(5)
    kinds = [Kind.BLIND, Kind.FORCED, Kind.MONITORED, Kind.BACKFILL]
    messages = [mesh.lightcurves_message(i, objects, kind=kind) for i, kind in enumerate(kinds)]
    await put(con, *(mesh.images_message(i) for i in range(4)), mesh.rejected(9), *messages)
    rows = await con.fetch(LIGHTCURVE, UUID(bytes=objects[2]))
    assert [row["f_int"] for row in rows] == [m.arrays["flux_int"][2] for m in messages]
    assert [row["extract_type"] for row in rows] == [0, 1, 2, 1]
    assert {row["freq_central"] for row in rows} == {60.1e6}
    assert rows[0]["taustart_ts"].isoformat() == "2023-11-14T22:13:20.123457"
    assert await con.fetchval("SELECT count(*) FROM rejection") == 1


async def test_the_variables_and_new_sources_as_they_were_queried(con: Connection) -> None:
    objects = mesh.object_ids(5)
    message = mesh.lightcurves_message(0, objects)
    event = mesh.event(0, objects[1], kind="new_source", certain=True, limits_image=mesh.image(0).id)
    gone = mesh.event(0, objects[2], kind="new_source", alert_type="retraction")
    await put(con, mesh.images_message(0), message, event, gone)
    rows = await con.fetch(VARIABLES)
    assert [row["id"].bytes for row in rows] == sorted(objects)
    at = [objects.index(row["id"].bytes) for row in rows]
    np.testing.assert_array_equal([row["v_int"] for row in rows], message.arrays["states.v"][at])
    assert {row["datapoints"] for row in rows} == {1}
    (row,) = await con.fetch(TRANSIENTS)
    assert (row["newsource_type"], row["previous_limits_image"].bytes) == (1, mesh.image(0).id)
    assert row["f_int"] == message.arrays["flux_int"][1]


async def test_what_follows_from_the_stored_columns_is_filled(con: Connection) -> None:
    objects = mesh.object_ids(3)
    messages = [mesh.lightcurves_message(i, objects, seed=i) for i in range(5)]
    limits = mesh.images_message(7, noise=4.0)
    event = mesh.event(0, objects[1], kind="new_source", certain=True, limits_image=mesh.image(7).id)
    await put(con, limits, *messages, event)
    rows = await con.fetch("SELECT * FROM varmetric ORDER BY runcat")
    flux = np.array([m.arrays["flux_int"] for m in messages])
    of = [objects.index(row["runcat"].bytes) for row in rows]
    np.testing.assert_allclose([row["lightcurve_median"] for row in rows], np.median(flux, axis=0)[of])
    sigma = {objects.index(row["runcat"].bytes): row["sigma_rms_max"] for row in rows}
    assert sigma == {0: None, 1: event.header.flux_peak / 4.0, 2: None}
    far = await con.fetch("SELECT distance_arcsec FROM assocxtrsource WHERE runcat = $1", UUID(bytes=objects[0]))
    assert len(far) == 5 and all(0 <= row["distance_arcsec"] < 180 * 3600 for row in far)
    asked = LIGHTCURVE.replace("ax.xtrsrc = ex.id", "ax.xtrsrc = ex.id AND ex.runcat = ax.runcat")
    assert len(await con.fetch(asked, UUID(bytes=objects[2]))) == 0, "no images of these are stored"


async def test_every_view_has_rows_and_says_what_it_is(con: Connection) -> None:
    await put(con, mesh.images_message(0), mesh.rejected(1), mesh.lightcurves_message(0, mesh.object_ids(2)),
              mesh.event(0, mesh.object_ids(1)[0], kind="new_source"))  # fmt: skip
    views = await con.fetch("SELECT viewname, obj_description(format('trap.%I', viewname)::regclass) AS text "
                            "FROM pg_views WHERE schemaname = 'trap'")  # fmt: skip
    assert len(views) == 11
    for view in views:
        assert view["text"] and await con.fetchval(f"SELECT count(*) FROM trap.{view['viewname']}") > 0, view
