"""`open_store`: what an astronomer gets, in the types of astropy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time

import lightcurve_messages as mesh
from trapline.client import open_store
from trapline.common.ids import text_id
from trapline.common.postgres.connection import open_database
from trapline.common.postgres.errors import DatabaseError
from trapline.common.sky import separation_deg
from trapline.common.store.polygon import Polygon
from trapline.common.store.tables import time_of
from trapline.common.store.timeseries import gaps, upper_limits
from trapline.common.testing.postgres import run_sql
from trapline.database_dumper.core import rows_of
from trapline.database_dumper.store import store_batch
from trapline.schemas.columns import Kind, Link
from trapline.schemas.image import Band
from trapline.schemas.lightcurves import Fork
from trapline.schemas.message import Message


def put(dsn: str, *messages: Message[Any]) -> None:
    """Store messages as the dumper does."""

    async def run() -> None:
        async with open_database(dsn) as database, database.connection() as con:
            await store_batch(con, "test", [rows_of(mesh.place("any", i), m) for i, m in enumerate(messages)])

    asyncio.run(run())


@pytest.fixture
def store(dsn: str) -> Iterator[Any]:
    with open_store(dsn) as opened:
        yield opened


def with_columns(message: Message[Any], **columns: Any) -> Message[Any]:
    return Message(message.header, dict(message.arrays) | columns)


def test_objects_in_a_cone_as_an_astropy_table(dsn: str, store: Any) -> None:
    objects = mesh.object_ids(300)
    put(dsn, mesh.lightcurves_message(0, objects))
    everything = store.objects()
    assert len(everything) == 300
    near = store.objects(cone=(85.0, 22.5, 2.0))
    distances = separation_deg(everything["ra_deg"], everything["dec_deg"], 85.0, 22.5)
    assert len(near) == (distances < 2).sum() > 20
    assert (np.diff(near["distance_deg"]) >= 0).all()
    assert near["ra_deg"].unit == u.deg and near["flux_mean"].unit == u.Jy
    assert isinstance(near["first_seen"], Time) and near["first_seen"].scale == "utc"
    same = store.objects(cone=(SkyCoord(85.0 * u.deg, 22.5 * u.deg).galactic, 120 * u.arcmin))
    assert list(same["object"]) == list(near["object"])
    frame = near.to_pandas()
    assert len(frame) == len(near) and frame["ra_deg"].dtype == float


def test_objects_by_what_is_known_of_them(dsn: str, store: Any) -> None:
    first, second = mesh.object_ids(4), mesh.object_ids(3, number=1)
    messages = [mesh.lightcurves_message(0, first), mesh.lightcurves_message(1, first[:2])]
    v, eta = np.array([0.1, 0.5, np.nan]), np.array([1.0, 9.0, 30.0])
    other = mesh.lightcurves_message(2, second, dataset="deep", image=mesh.image(2, band=Band("b")))
    put(dsn, *messages, with_columns(other, **{"states.v": v, "states.eta": eta, "states.n": np.uint32([1, 7, 7])}))

    def found(**filters: Any) -> set[str]:
        return set(store.objects(**filters)["object"])

    deep = [text_id(i) for i in second]
    assert found(dataset="deep") == found(band="b") == set(deep)
    assert found(band="b", min_v=0.2) == {deep[1]}
    assert found(band="b", min_eta=5) == set(deep[1:])
    assert found(dataset="deep", min_points=2) == set(deep[1:])
    assert found(dataset="no such") == found(kind=1) == found(retired=True) == set()
    later = Time(mesh.START_US / 1e6 + 0.5, format="unix")
    assert found(seen_since=later) == {*(text_id(i) for i in first[:2]), *deep}
    assert found(seen_since=later.isot) == found(seen_since=later)


def test_objects_in_a_polygon_across_the_meridian_and_a_pole(dsn: str, store: Any) -> None:
    rng = np.random.default_rng(3)
    n = 800
    ra, dec = rng.uniform(0, 360, n), np.where(np.arange(n) % 2, rng.uniform(80, 90, n), rng.uniform(-5, 5, n))
    ra[::4] = rng.uniform(-6, 6, len(ra[::4])) % 360
    put(dsn, with_columns(mesh.lightcurves_message(0, mesh.object_ids(n)), object_ra_deg=ra, object_dec_deg=dec))
    box = store.objects(region=[(355, -3), (4, -3), (4, 3), (355, 3)])
    wanted = ((ra > 355) | (ra < 4)) & (abs(dec) < 2.99)
    assert abs(len(box) - wanted.sum()) <= 2 and len(box) > 50, "great circles are not parallels: a few at the rim"
    cap = store.objects(region=[(k, 85.0) for k in range(0, 360, 2)])
    assert abs(len(cap) - (dec > 85).sum()) <= 2 and len(cap) > 100
    notched = Polygon.of([(0, 0), (10, 0), (10, 10), (5, 2), (0, 10)])
    assert notched.holds([5, 5, 1, 359, 185], [1, 5, 5, 5, -5]).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"cone": (10, 91, 1)}, "no position"),
        ({"cone": (10, 9, 0)}, "above 0"),
        ({"region": [(0, 0), (1, 1)]}, "three or more corners"),
        ({"region": [(0, 0), (1, 1), (2, 95)]}, "no position"),
        ({"region": [(0, 0), (120, 0), (240, 0)]}, "ask in parts"),
        ({"cone": (1, 1, 1), "region": [(0, 0), (1, 1), (2, 1)]}, "not both"),
    ],
    ids=["dec", "radius", "corners", "corner", "wide", "both"],
)
def test_a_place_that_is_none_is_refused(store: Any, arguments: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        store.objects(**arguments)


def test_a_lightcurve_marks_what_is_no_detection(dsn: str, store: Any) -> None:
    (target,) = mesh.object_ids(1)
    kinds = [Kind.BLIND, Kind.FORCED, Kind.FORCED, Kind.FORCED, Kind.BACKFILL, Kind.BLIND]
    flux = [10.0, 1.0, -4.0, 9.0, np.nan, 12.0]
    times = [0, 1, 2, 3, 4, 60]
    messages = [
        with_columns(
            mesh.lightcurves_message(t, [target], kind=kind), flux_int=np.array([f]), flux_int_err=np.array([2.0])
        )
        for t, kind, f in zip(times, kinds, flux, strict=True)
    ]
    put(dsn, *messages)
    curve = store.lightcurve(text_id(target))
    assert curve["flux_int"].unit == u.Jy
    np.testing.assert_array_equal(curve["flux_int"].value, flux)
    assert list(curve["kind"]) == ["blind", "forced", "forced", "forced", "backfill", "blind"]
    assert list(curve["forced"]) == [False, True, True, True, True, False]
    assert list(curve["is_limit"]) == [False, True, True, False, False, False]
    np.testing.assert_array_equal(curve["upper_limit"].value, [np.nan, 7.0, 6.0, np.nan, np.nan, np.nan])
    assert list(curve["gap"]) == [False] * 5 + [True]
    assert curve.time.isot[0] == "2023-11-14T22:13:20.123457"
    assert len(store.lightcurve(target, since=curve.time[1], until=curve.time[3])) == 2
    assert len(store.lightcurve(target, since="2023-11-14T22:13:24")) == 2
    frame = curve.to_pandas()
    assert frame["flux_int"].tolist()[0] == 10.0 and frame.index.name == "time"


def test_a_lightcurve_says_what_was_inherited(dsn: str, store: Any) -> None:
    root, left, right = mesh.object_ids(3)
    fork = {"forks": [Fork(root, [left, right])], "retired": [root]}
    put(dsn, mesh.lightcurves_message(0, [root]), mesh.lightcurves_message(1, [left, right], **fork))
    curve = store.lightcurve(left)
    assert list(curve["inherited"]) == [True, False]
    assert list(curve["object"]) == [text_id(root), text_id(left)]
    assert set(store.objects(retired=True)["object"]) == {text_id(root)}


def test_the_history_of_many_objects_with_how_they_began(dsn: str, store: Any) -> None:
    root, left, right, other = mesh.object_ids(4)
    fork = {"forks": [Fork(root, [left, right])], "retired": [root]}
    split = mesh.lightcurves_message(1, [left, right], **fork)
    split = with_columns(split, link=np.full(2, Link.FORKED, np.uint8))
    year_us = 366 * 86_400 * 1_000_000
    old = mesh.lightcurves_message(9, [other], image=mesh.image(9, t_start_us=mesh.START_US - year_us))
    forced = mesh.lightcurves_message(2, [left, other], kind=Kind.FORCED)
    forced = with_columns(forced, link=np.full(2, Link.FORCED, np.uint8))
    put(dsn, mesh.lightcurves_message(0, [root, other]), split, forced, old)
    found = store.history([left, right, other])
    assert list(found["object"]) == [text_id(i) for i in sorted([left] * 3 + [right] * 2 + [other] * 2)]
    began = found[found["began"]]
    assert sorted(began["object"]) == sorted(text_id(i) for i in (left, right, other))
    assert len(store.history([left, right, other], forced=False)) == 5
    assert len(store.history([other], since="2000-01-01")) == 3, "also what is older than a year"
    assert sum(store.history([left, right])["inherited"]) == 2
    near = store.history(cone=(85, 22, 20))
    assert len(near) == 8 and len(store.history([])) == 0


def test_fluxes_of_several_units_say_which(dsn: str, store: Any) -> None:
    (target,) = mesh.object_ids(1)
    images = [mesh.image(i, band=Band(b), unit=unit) for i, (b, unit) in enumerate((("r", "Jy"), ("g", "count")))]
    put(dsn, *(mesh.lightcurves_message(i, [target], image=of) for i, of in enumerate(images)))
    curve = store.lightcurve(target)
    assert list(curve["unit"]) == ["Jy", "count"] and curve["flux_int"].unit is None
    assert store.lightcurve(target, "g")["flux_int"].unit == u.count


def test_transients_and_images_as_tables(dsn: str, store: Any) -> None:
    objects = mesh.object_ids(2)
    put(dsn, *(mesh.images_message(i) for i in range(5)), mesh.rejected(7), mesh.event(1, objects[0], 1),
        mesh.event(3, objects[1], 3, kind="fade"))  # fmt: skip
    events = store.transients()
    assert list(events["kind"]) == ["flare", "fade"] and isinstance(events["t"], Time)
    assert list(store.transients(kind="fade")["object"]) == [text_id(objects[1])]
    assert len(store.transients(object_id=objects[0])) == len(store.transients(until=events["t"][1])) == 1
    assert len(store.transients(cone=(83, 22, 0.1))) == 2 and len(store.transients(cone=(83, 23, 0.1))) == 0
    images = store.images()
    assert len(images) == 6 and images["t"].mask.tolist() == [False] * 5 + [True]
    assert images["noise"].mask[5] and images["noise"].unit == u.Jy
    assert len(store.images(rejected=False)) == 5 == len(store.images(band="60.1 MHz"))
    assert len(store.images(since=images["t"][2])) == 3 and len(store.images(cone=(83, 22, 1))) == 5


def test_a_stream_gives_all_rows_in_tables_of_a_size(dsn: str, store: Any) -> None:
    objects = mesh.object_ids(50)
    put(dsn, *(mesh.lightcurves_message(i, objects) for i in range(5)))
    sizes = [len(table) for table in store.stream("lightcurves", rows=60)]
    assert sizes == [60, 60, 60, 60, 10]
    next(store.stream("lightcurves", rows=7))
    assert len(store.objects()) == 50, "a stream that was left holds no one up"
    assert list(store.stream("transients")) == []
    with pytest.raises(ValueError, match="there is no export of 'stars'"):
        list(store.stream("stars"))


def test_times_are_exact_on_a_day_with_a_leap_second() -> None:
    texts = ["2016-12-31T12:00:00.123456", "2016-12-31T23:59:59.999999", "2017-01-01T00:00:00.000000",
             "1969-07-20T20:17:40.000001"]  # fmt: skip
    t_us = np.array(texts, "datetime64[us]").astype(np.int64)
    assert time_of(t_us).isot.tolist() == texts
    assert (time_of(t_us)[2] - time_of(t_us)[1]).sec == pytest.approx(1.000001, abs=1e-9)


def test_limits_and_gaps_of_nothing_are_nothing() -> None:
    nothing = np.zeros(0)
    assert len(gaps(nothing, nothing)) == len(upper_limits(nothing, nothing, nothing.astype(bool))) == 0
    assert gaps(np.array([0, 1, 2, 9]), np.array([0, 0, 0, 1])).tolist() == [False] * 4


def test_where_there_is_no_store_the_error_says_so(dsn: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatabaseError, match="there is no store in"):
        open_store(tmp_path)
    with pytest.raises(ValueError, match="neither postgresql"):
        open_store("nowhere")
    assert not any(tmp_path.iterdir()), "looking makes nothing"
    run_sql(dsn, "UPDATE schema_version SET version_num = '0000'")
    with pytest.raises(DatabaseError, match="run `trapline db upgrade`"):
        open_store(dsn)
