"""Against a slow and obvious associator, on random crowded fields, everywhere on the sky."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from associator_images import image, record_of, rows_permuted, sources
from associator_reference import Measurement, Reference, Star
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, step
from trapline.common.ids import fork_child_id, object_id
from trapline.common.sky import from_tangent
from trapline.schemas.columns import Arrays, Link, array_to_ids
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources

SETTINGS = AssociatorConfig()
BEAM_DEG = 0.2
Float = npt.NDArray[np.float64]


def crowded(seed: int, ra_deg: float, dec_deg: float, images: int = 12) -> list[Message[Sources]]:
    """Return images of 40 stars within two beams of each other, seen with jitter, some missed, and some noise."""
    rng = np.random.default_rng(seed)
    east, north = rng.uniform(-0.8, 0.8, (2, 40))
    records = []
    for number in range(images):
        seen = rng.random(40) < 0.8
        e = np.concatenate([east[seen] + rng.normal(0, 0.03, seen.sum()), rng.uniform(-0.8, 0.8, 5)])
        n = np.concatenate([north[seen] + rng.normal(0, 0.03, seen.sum()), rng.uniform(-0.8, 0.8, 5)])
        ra, dec = from_tangent(e, n, ra_deg, dec_deg)
        flux = rng.normal(5.0, 1.0, len(ra))
        band = ("60 MHz", "70 MHz")[number % 2]
        of = image(number, ra_deg=ra_deg, dec_deg=dec_deg, beam_deg=BEAM_DEG, band=band)
        errors = rng.uniform(0.01, 0.05, (3, len(ra)))
        columns = {"pos_err_ew_deg": errors[0], "pos_err_ns_deg": errors[1]}
        records.append(sources(of, ra % 360, dec, flux, flux_err=5 * errors[2], **columns))
    return records


def fold_all(records: list[Message[Sources]], method: str = "deruiter") -> list[Message[Lightcurves]]:
    state, chosen = AssociatorState(), AssociatorConfig(method=method)
    return [record_of(step(state, record.header.image, record, chosen)) for record in records]


def measurements(record: Message[Sources]) -> list[Measurement]:
    assert record.header.image.band
    band, columns = record.header.image.band.name, record.arrays
    return [
        Measurement(
            ra=float(columns["ra_deg"][row]),
            dec=float(columns["dec_deg"][row]),
            ew=float(columns["pos_err_ew_deg"][row]),
            ns=float(columns["pos_err_ns_deg"][row]),
            flux=float(columns["flux_int"][row]),
            flux_err=float(columns["flux_int_err"][row]),
            band=band,
            source=source,
        )
        for row, source in enumerate(array_to_ids(columns["source_id"]))
    ]


LINKS = {"one to one": Link.ONE_TO_ONE, "new": Link.NEW, "forked": Link.FORKED, "shared": Link.SHARED}
PLACES = [
    (0.0, 0.0),
    (0.1, 52.0),
    (90.0, -30.0),
    (180.0, 79.6),
    (270.0, 80.3),
    (10.0, 89.7),
    (200.0, 90.0),
    (33.0, -90),
]


@pytest.mark.parametrize("method", ["deruiter", "nearest"])
@pytest.mark.parametrize(("ra_deg", "dec_deg"), PLACES)
def test_objects_positions_and_statistics_are_those_of_the_reference(
    ra_deg: float, dec_deg: float, method: str
) -> None:
    records = crowded(7, ra_deg, dec_deg)
    reference, seen = Reference(limit_deg=3.0 * BEAM_DEG / 2, method=method), Counter[int]()
    for record, message in zip(records, fold_all(records, method), strict=True):
        start, arrays = record.header.image.t_start_us or 0, message.arrays
        found = [replace(m, source=object_id(start, m.source)) for m in measurements(record)]
        sources = array_to_ids(record.arrays["source_id"])
        by_founder = dict(zip((m.source for m in found), sources, strict=True))
        expected = reference.fold(found, lambda parent, source: fork_child_id(start, parent, by_founder[source]))  # noqa: B023
        assert array_to_ids(arrays["object_id"]) == [star.name for _, star, _, _ in expected]
        assert array_to_ids(arrays["source_id"]) == [sources[rank] for rank, _, _, _ in expected]
        assert arrays["link"].tolist() == [LINKS[how] for _, _, _, how in expected]
        radii = [np.nan if radius is None else radius for _, _, radius, _ in expected]
        assert arrays["deruiter"] == pytest.approx(radii, rel=1e-5, nan_ok=True)
        check_states(arrays, [star for _, star, _, _ in expected], record)
        assert {fork.parent: sorted(fork.children) for fork in message.header.forks} == {
            parent: sorted(children) for parent, children in reference.forks.items() if parent in message.header.retired
        }
        seen.update(arrays["link"].tolist())
    assert set(seen) == ({0, 1, 2, 3} if method == "deruiter" else {0, 1})
    assert all(n > 20 for n in seen.values()), seen


def check_states(arrays: Arrays, stars: list[Star], record: Message[Sources]) -> None:
    assert record.header.image.band
    positions = np.array([star.position() for star in stars])
    turn = (arrays["object_ra_deg"] - positions[:, 0] + 180) % 360 - 180
    assert np.abs(turn * np.cos(np.radians(positions[:, 1]))).max() < 1e-10
    # The reference takes an arcsine, which has half of the digits at a pole.
    assert np.abs(arrays["object_dec_deg"] - positions[:, 1]).max() < 1e-6
    assert arrays["object_err_ew_deg"] == pytest.approx(positions[:, 2], rel=1e-12)
    assert arrays["object_err_ns_deg"] == pytest.approx(positions[:, 3], rel=1e-12)
    n, v, eta = np.array([star.variability(record.header.image.band.name) for star in stars]).T
    assert arrays["n"].tolist() == n.tolist()
    assert arrays["v"] == pytest.approx(v, rel=1e-9)
    assert arrays["eta"] == pytest.approx(eta, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    turn_deg=st.one_of(st.sampled_from([90.0, 180.0, 270.0, 359.5]), st.floats(0, 360)),
    dec_deg=st.sampled_from([0.0, 45.0, -79.8, 80.2, 88.0]),
)
def test_a_rotation_in_right_ascension_changes_nothing(seed: int, turn_deg: float, dec_deg: float) -> None:
    here, there = (fold_all(crowded(seed, ra, dec_deg, images=4)) for ra in (0.2, 0.2 + turn_deg))
    for a, b in zip((m.arrays for m in here), (m.arrays for m in there), strict=True):
        assert a["link"].tolist() == b["link"].tolist()
        assert a["object_dec_deg"] == pytest.approx(b["object_dec_deg"], abs=1e-8)
        assert a["deruiter"] == pytest.approx(b["deruiter"], rel=1e-4, abs=1e-6, nan_ok=True)
        # Ids differ with the pixels' id only: the same rows belong together.
        assert a["object_id"].tobytes() == b["object_id"].tobytes()


@pytest.mark.parametrize("method", ["deruiter", "nearest", "optimal"])
def test_rows_in_another_order_change_nothing(method: str) -> None:
    rng = np.random.default_rng(2)
    records = crowded(21, 0.0, 89.5)
    shuffled = [rows_permuted(record, rng.permutation(len(record.arrays["x"]))) for record in records]
    for a, b in zip(fold_all(records, method), fold_all(shuffled, method), strict=True):
        assert {name: array.tobytes() for name, array in a.arrays.items()} == {
            name: array.tobytes() for name, array in b.arrays.items()
        }
        assert a.header == b.header
