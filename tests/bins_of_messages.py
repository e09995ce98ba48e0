"""What the bins of some messages are, computed from all their points at once, and what a store holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np

import lightcurve_messages as mesh
from trapline.common.postgres.connection import Connection
from trapline.common.store.bins import WIDTHS_US
from trapline.database_dumper.core import RecordRows, rows_of
from trapline.database_dumper.partitions import microseconds
from trapline.schemas.columns import array_to_ids
from trapline.schemas.image import Band
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message

Bins = dict[tuple[bytes, str, int], tuple[float, ...]]
"""(mean, error, min, max, chi2, n, n_forced) by (object, band, start)"""


def lightcurve(t_us: int, objects: list[bytes], rng: np.random.Generator, **header: Any) -> Message[Lightcurves]:
    """One point of each object at a time, with fluxes that differ."""
    number = abs(round((t_us - mesh.START_US) / mesh.STEP_US)) % 2**30
    kind = header.pop("kind", 0)
    band = header.pop("band", mesh.BAND)
    of = mesh.image(number, t_start_us=t_us, id=mesh.ids.fact_id(t_us, "image", number, band.name), band=band)
    message = mesh.lightcurves_message(number, objects, image=of, kind=kind, **header)
    flux = {"flux_int": rng.normal(100, 5, len(objects)), "flux_int_err": rng.uniform(0.5, 5, len(objects))}
    flux["flux_int"][rng.random(len(objects)) < 0.05] = np.nan
    return Message(message.header, dict(message.arrays) | flux)


def records(messages: Sequence[Message[Any]], first: int = 0) -> list[RecordRows]:
    return [rows_of(mesh.place("lightcurves", first + i), m) for i, m in enumerate(messages)]


def some_days(seed: int = 1) -> list[Message[Any]]:
    """Images of two bands over three days: bursts, pauses, late ones, forced ones, some said twice."""
    rng = np.random.default_rng(seed)
    objects = mesh.object_ids(6)
    hour, day = WIDTHS_US["hour"], WIDTHS_US["day"]
    starts = np.concatenate([mesh.START_US + d * day + np.sort(rng.integers(0, 2 * hour, 40)) for d in range(3)])
    late = rng.random(len(starts)) < 0.15
    times = np.where(late, starts - rng.integers(0, 2 * day, len(starts)), starts)
    messages = [
        lightcurve(int(t), objects[: rng.integers(1, 7)], rng, kind=int(rng.integers(0, 2)), band=Band("ab"[i % 2]))
        for i, t in enumerate(times)
    ]
    return messages + messages[20:25]


def expected(messages: Iterable[Message[Lightcurves]], tier: str, before: int | None = None) -> Bins:
    """Return the bins of points, of each point once, that begin before a time."""
    width = WIDTHS_US[tier]
    points: dict[tuple[bytes, str, int], dict[bytes, tuple[float, float, bool]]] = {}
    for message in messages:
        image, columns = message.header.image, message.arrays
        start = image.t_start_us // width * width
        if before is not None and start >= before:
            continue
        ids = (array_to_ids(columns[name]) for name in ("object_id", "point_id"))
        for of, point, f, e, k in zip(*ids, columns["flux_int"], columns["flux_int_err"], columns["kind"], strict=True):
            if np.isfinite(f):
                points.setdefault((of, image.band.name, start), {}).setdefault(point, (float(f), float(e), k != 0))
    return {key: _statistics(list(of.values())) for key, of in points.items()}


def _statistics(points: list[tuple[float, float, bool]]) -> tuple[float, ...]:
    flux, error, forced = (np.array(column, float) for column in zip(*points, strict=True))
    weight = 1 / error**2
    mean = (weight * flux).sum() / weight.sum()
    chi2 = (weight * (flux - mean) ** 2).sum()
    return (mean, weight.sum() ** -0.5, flux.min(), flux.max(), chi2, len(flux), forced.sum())


async def stored(con: Connection, tier: str) -> Bins:
    """Return the bins of a table."""
    rows = await con.fetch(f"SELECT * FROM bin_{tier}")
    return {
        (r["object"].bytes, r["band"], microseconds(r["t"])): tuple(
            r[name] for name in ("flux_mean", "flux_err", "flux_min", "flux_max", "chi2", "n", "n_forced")
        )
        for r in rows
    }


async def marks(con: Connection, dataset: UUID | None = None) -> dict[str, int]:
    row = await con.fetchrow("SELECT * FROM binning WHERE $1::uuid IS NULL OR _id = $1", dataset)
    assert row is not None
    return {tier: microseconds(row[tier]) for tier in WIDTHS_US}


def assert_same(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> None:
    assert set(found) == set(wanted)
    if wanted:
        rows, others = (np.array([of[key] for key in wanted]) for of in (found, wanted))
        np.testing.assert_allclose(rows, others, rtol=1e-9, atol=1e-9)
