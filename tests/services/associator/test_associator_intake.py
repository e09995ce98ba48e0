from __future__ import annotations

import numpy as np
import pytest

from associator_images import image, record_of, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, Folded, step
from trapline.schemas.columns import Link
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources

SETTINGS = AssociatorConfig()


def fold(state: AssociatorState, record: Message[Sources]) -> Folded:
    return step(state, record.header.image, record, SETTINGS)


def only(folded: Folded) -> Message[Lightcurves]:
    return record_of(folded)


BAD: list[tuple[str, float, str]] = [
    ("ra_deg", np.nan, "non_finite"),
    ("dec_deg", np.inf, "non_finite"),
    ("flux_int", np.nan, "non_finite"),
    ("flux_peak", -np.inf, "non_finite"),
    ("pos_err_ew_deg", np.inf, "non_finite"),
    ("pos_err_ns_deg", np.nan, "non_finite"),
    ("flux_int_err", np.inf, "non_finite"),
    ("flux_peak_err", np.inf, "non_finite"),
    ("dec_deg", 90.001, "out_of_range"),
    ("pos_err_ew_deg", 0.0, "out_of_range"),
    ("pos_err_ns_deg", -1.0, "out_of_range"),
    ("flux_int_err", 5e-324, "out_of_range"),
    ("flux_int", 1e300, "out_of_range"),
]


@pytest.mark.parametrize(("column", "value", "reason"), BAD)
def test_sources_that_cannot_be_used_are_dropped_and_counted(column: str, value: float, reason: str) -> None:
    state = AssociatorState()
    record = sources(image(0), [10.0, 10.2, 10.4], [50.0, 50.0, 50.0])
    record.arrays[column][1] = value
    folded = fold(state, record)
    assert folded.dropped == {reason: 1}
    arrays = only(folded).arrays
    assert arrays["ra_deg"].tolist() == [10.0, 10.4]
    assert all(np.isfinite(arrays[name]).all() for name in ("object_ra_deg", "v", "eta", "flux_mean"))


def test_an_unknown_error_of_the_peak_is_no_reason_to_drop() -> None:
    record = sources(image(0), 10.0, 50.0, flux_peak_err=np.nan)
    assert fold(AssociatorState(), record).dropped == {}


def test_a_source_id_counts_once() -> None:
    record = sources(image(0), [10.0, 10.2, 10.4], 50.0 + np.zeros(3))
    record.arrays["source_id"][2] = record.arrays["source_id"][0]
    folded = fold(AssociatorState(), record)
    assert folded.dropped == {"repeated": 1}
    assert only(folded).arrays["ra_deg"].tolist() == [10.0, 10.2]


def test_right_ascension_is_brought_into_its_range() -> None:
    state = AssociatorState()
    record = sources(image(0, ra_deg=0.0), [-1e-17, 360.0, 725.0, -350.0], [10.0, 20.0, 30.0, 40.0])
    arrays = only(fold(state, record)).arrays
    assert arrays["object_ra_deg"].tolist() == [0.0, 0.0, 5.0, 10.0]
    arrays = only(fold(state, sources(image(1, ra_deg=0.0), [-1e-9, 1e-18], [10.0, 20.0]))).arrays
    assert arrays["link"].tolist() == [Link.ONE_TO_ONE] * 2
    assert all(0 <= ra < 360 for ra in arrays["object_ra_deg"].tolist())


def test_a_mean_that_is_hardly_west_of_right_ascension_0_has_one() -> None:
    state = AssociatorState()
    fold(state, sources(image(0, ra_deg=0.0), 0.0, 10.0, error_deg=0.01))
    # A weight of 1e-10 and an offset of -1e-7 deg move the mean by -1e-17 deg, which wraps to 360.0 in floating point.
    arrays = only(fold(state, sources(image(1, ra_deg=0.0), 359.9999999, 10.0, error_deg=1e3))).arrays
    assert arrays["link"].tolist() == [Link.ONE_TO_ONE]
    assert arrays["object_ra_deg"].tolist() == [0.0]
