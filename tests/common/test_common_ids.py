"""Ids: the same fact gives the same id, on every machine and for ever."""

import uuid

import numpy as np
import pytest

from trapline.common import ids

T_US = 1_767_225_600_123_456

# Image, source, object, point. A change here would give every object of every store a new name.
GOLDEN_CHAIN = [
    "019b76da-a87b-8e15-a1ab-2d4f4ff62fda",
    "019b76da-a87b-8699-ab4c-a0501bd9bd3f",
    "019b76da-a87b-8f04-89b7-ff639bac323c",
    "019b76da-a87b-82e9-b93f-046f203136ad",
]


def test_an_id_is_a_uuid_of_version_8_that_begins_with_the_time():
    made = uuid.UUID(bytes=ids.fact_id(T_US, "test", b"x", 1, None, "y", 2.5))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert made.int >> 80 == T_US // 1000
    assert ids.id_time_us(made.bytes) == T_US // 1000 * 1000


def test_ids_sort_by_time_whatever_the_fact():
    times = np.random.default_rng(1).integers(0, 2**47, 200) * 1000
    made = [ids.fact_id(int(t), "test", i) for i, t in enumerate(times)]
    assert sorted(made) == [made[i] for i in np.argsort(times, kind="stable")]


def test_times_before_1970_count_as_zero():
    assert ids.fact_id(-5, "test")[:6] == bytes(6)


@pytest.mark.parametrize(
    "other",
    [
        ids.fact_id(0, "other", b"a", 1),
        ids.fact_id(0, "kind", b"a", 2),
        ids.fact_id(0, "kind", b"a"),
        ids.fact_id(0, "kind", "a", 1),
        ids.fact_id(0, "kind", b"a", 1, None),
        ids.fact_id(1000, "kind", b"a", 1),
    ],
)
def test_different_facts_have_different_ids(other):
    assert other != ids.fact_id(0, "kind", b"a", 1)


def test_golden_ids():
    pixels = np.arange(6, dtype=np.float32).reshape(2, 3)
    image = ids.image_id(
        pixels, dataset="default", instrument="test", band="b", stokes="I", t_start_us=T_US, exposure_s=1.0
    )
    source = ids.blind_source_id(T_US, image, 0)
    founded = ids.object_id(T_US, source)
    assert [ids.text_id(i) for i in (image, source, founded, ids.point_id(T_US, founded, source))] == GOLDEN_CHAIN


def test_the_id_of_an_image_does_not_depend_on_how_its_pixels_lie_in_memory():
    pixels = np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32)
    facts = {"dataset": "d", "instrument": "i", "band": "b", "stokes": "I", "t_start_us": T_US, "exposure_s": 2}
    expected = ids.image_id(pixels, **facts)
    assert ids.image_id(pixels.astype(">f4"), **facts) == expected
    assert ids.image_id(np.asfortranarray(pixels), **facts) == expected
    assert ids.image_id(pixels + np.float32(1e-3), **facts) != expected


def test_a_mistyped_id_is_refused_with_an_example():
    with pytest.raises(ValueError, match="looks like 00000000-"):
        ids.parse_id("nonsense")
    assert ids.parse_id(ids.text_id(bytes(range(16)))) == bytes(range(16))
