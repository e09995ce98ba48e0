"""Forks and shared sources through `step`, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from associator_images import T0_US, image, record_of, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, step
from trapline.common.ids import fork_child_id, point_id
from trapline.schemas.columns import Arrays, Link, array_to_ids
from trapline.schemas.lightcurves import Fork, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources

SETTINGS = AssociatorConfig()


def fold(state: AssociatorState, record: Message[Sources]) -> Message[Lightcurves]:
    return record_of(step(state, record.header.image, record, SETTINGS))


def ids(arrays: Arrays, name: str = "object_id") -> list[bytes]:
    return array_to_ids(arrays[name])


def test_an_object_with_two_sources_forks_and_both_continue_its_past() -> None:
    state = AssociatorState()
    (parent,) = ids(fold(state, sources(image(0), 10.0, 50.00, 4.0)).arrays)
    fold(state, sources(image(1, band="70 MHz"), 10.0, 50.00, 9.0))
    record = sources(image(2), 10.0, [49.98, 50.04], [6.0, 8.0])
    message = fold(state, record)
    founders = ids(record.arrays, "source_id")
    children = [fork_child_id(T0_US + 2_000_000, parent, source) for source in founders]
    assert ids(message.arrays) == children
    assert message.header.forks == [Fork(parent, children)]
    assert message.header.retired == [parent]
    assert message.arrays["link"].tolist() == [Link.FORKED] * 2
    assert ids(message.arrays, "point_id") == [
        point_id(T0_US + 2_000_000, child, source) for child, source in zip(children, founders, strict=True)
    ]
    # Means of 4 and 6, 4 and 8; positions of two points at 50.00 (one in each band) and one of its own.
    assert message.arrays["n"].tolist() == [2, 2]
    assert message.arrays["flux_mean"] == pytest.approx([5.0, 6.0])
    assert message.arrays["object_dec_deg"] == pytest.approx([50 - 0.02 / 3, 50 + 0.04 / 3], abs=1e-8)
    assert message.arrays["object_err_ns_deg"] == pytest.approx([0.01 / np.sqrt(3)] * 2)
    assert message.arrays["first_seen_us"].tolist() == [T0_US] * 2
    # The radius is that to the parent: two points of 0.01 give 0.01 / sqrt(2), with the source's 0.01 sqrt(1.5e-4).
    assert message.arrays["deruiter"] == pytest.approx(np.array([0.02, 0.04]) / np.sqrt(1.5e-4), rel=1e-5)


def test_a_child_has_the_statistics_of_every_band_and_its_own_ones_after() -> None:
    state = AssociatorState()
    fold(state, sources(image(0), 10.0, 50.00, 4.0))
    fold(state, sources(image(1, band="70 MHz"), 10.0, 50.00, 9.0))
    forked = fold(state, sources(image(2), 10.0, [49.96, 50.04], 6.0))
    children = ids(forked.arrays)
    assert [band.name for band in forked.header.inherited_bands] == ["70 MHz"]
    assert ids(forked.arrays, "inherited.object_id") == children
    assert forked.arrays["inherited.flux_mean"].tolist() == [9.0, 9.0]
    other = fold(state, sources(image(3, band="70 MHz"), 10.0, [49.96, 50.04], [11.0, 5.0])).arrays
    assert ids(other) == children
    assert other["link"].tolist() == [Link.ONE_TO_ONE] * 2
    assert other["n"].tolist() == [2, 2]
    assert other["flux_mean"] == pytest.approx([10.0, 7.0])


def test_a_parent_is_never_matched_again_and_children_fork_further() -> None:
    state = AssociatorState()
    (parent,) = ids(fold(state, sources(image(0), 10.0, 50.00, 4.0)).arrays)
    first = ids(fold(state, sources(image(1), 10.0, [49.93, 50.07], 6.0)).arrays)
    again = fold(state, sources(image(2), 10.0, [49.93, 50.06, 50.08], 5.0))
    assert again.arrays["link"].tolist() == [Link.ONE_TO_ONE, Link.FORKED, Link.FORKED]
    assert ids(again.arrays)[0] == first[0]
    assert again.header.retired == [first[1]]
    assert again.arrays["n"].tolist() == [3, 3, 3]
    catalogue = state.skies["default"].catalogue
    names = [ids({"object_id": catalogue.table.rows["object_id"][[row]]})[0] for row in catalogue.descendants(0)]
    assert names == [parent, *first, *again.header.forks[0].children]


def test_a_source_of_two_objects_is_a_point_of_both() -> None:
    state = AssociatorState()
    objects = sorted(ids(fold(state, sources(image(0), 10.0, [49.96, 50.04], [2.0, 4.0])).arrays))
    record = sources(image(1), 10.0, 50.0, 10.0)
    message = fold(state, record)
    assert ids(message.arrays) == objects
    assert ids(message.arrays, "source_id") == ids(record.arrays, "source_id") * 2
    assert len(set(ids(message.arrays, "point_id"))) == 2
    assert message.arrays["link"].tolist() == [Link.SHARED] * 2
    assert sorted(message.arrays["flux_mean"]) == pytest.approx([6.0, 7.0])
    assert message.header.forks == []
    assert sorted(message.arrays["object_dec_deg"]) == pytest.approx([49.98, 50.02], abs=1e-8)


def test_two_pairs_that_touch_stay_two_objects_however_often_they_are_seen() -> None:
    state, rng = AssociatorState(), np.random.default_rng(3)
    for number in range(50):
        dec = np.array([49.97, 50.03]) + rng.normal(0, 0.005, 2)
        message = fold(state, sources(image(number), 10.0, dec, error_deg=0.01))
        assert (message.arrays["link"] != Link.FORKED).all()
    assert len(state.skies["default"].catalogue) == 2


def test_one_to_one_methods_never_fork() -> None:
    for method in ("nearest", "optimal"):
        state, chosen = AssociatorState(), AssociatorConfig(method=method)
        step(state, image(0), sources(image(0), 10.0, 50.0), chosen)
        record = sources(image(1), 10.0, [49.98, 50.04])
        message = record_of(step(state, image(1), record, chosen))
        assert message.arrays["link"].tolist() == [Link.ONE_TO_ONE, Link.NEW]
