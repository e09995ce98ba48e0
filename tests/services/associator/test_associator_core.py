from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from associator_images import T0_US, image, record_of, sources
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import AssociatorState, Folded, step
from trapline.associator.snapshot import dump
from trapline.common.ids import object_id, point_id, record_id
from trapline.schemas.columns import Arrays, Link, SchemaError, array_to_ids
from trapline.schemas.header import Place
from trapline.schemas.image import Beam, Image, Quality
from trapline.schemas.lightcurves import SCHEMA, Lightcurves
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import Sources

SETTINGS = AssociatorConfig()


def fold(state: AssociatorState, record: Message[Sources], **options: Any) -> Folded:
    return step(state, record.header.image, record, SETTINGS, **options)


def only(folded: Folded) -> Message[Lightcurves]:
    return record_of(folded)


def frozen(state: AssociatorState) -> tuple[Any, dict[str, bytes]]:
    header, arrays = dump(state)
    return header, {name: array.tobytes() for name, array in arrays.items()}


def rejected(number: int) -> Image:
    return image(number, quality=Quality(rejected=True))


def test_a_new_object_and_its_next_point() -> None:
    state = AssociatorState()
    first, second = image(0), image(1)
    founding = sources(first, 10.0, 50.0, 5.0, error_deg=0.01, flux_err=0.5)
    a = only(fold(state, founding)).arrays
    again = sources(second, 10.0, 50.01, 7.0, error_deg=0.02, flux_err=1.0)
    b = only(fold(state, again)).arrays
    founder, follower = (array_to_ids(m.arrays["source_id"])[0] for m in (founding, again))
    star = object_id(T0_US, founder)
    assert [array_to_ids(m["object_id"])[0] for m in (a, b)] == [star, star]
    assert array_to_ids(a["point_id"]) == [point_id(T0_US, star, founder)]
    assert array_to_ids(b["point_id"]) == [point_id(T0_US + 1_000_000, star, follower)]
    assert [a["link"][0], b["link"][0]] == [Link.NEW, Link.ONE_TO_ONE]
    assert b["deruiter"] == pytest.approx([0.01 / np.hypot(0.01, 0.02)], rel=1e-6)
    # Weights 4 to 1: a fifth of the way north, error 1 / sqrt(1e4 + 2500).
    assert b["object_dec_deg"] == pytest.approx([50.002], abs=1e-9)
    assert b["object_err_ns_deg"] == pytest.approx([1.25e4**-0.5])
    assert b["flux_mean"] == pytest.approx([6.0])
    assert b["flux_mean_weighted"] == pytest.approx([5.4])
    assert b["first_seen_us"].tolist() == [T0_US]
    assert np.isnan(a["deruiter"][0])


def test_the_record_says_where_it_comes_from_and_travels() -> None:
    state = AssociatorState()
    place = Place("images", "0", 1, 41)
    record = sources(image(3, place=place), [10.0, 10.2], [50.0, 50.1], dataset="night 1")
    message = only(fold(state, record))
    header = message.header
    assert header.id == record_id(T0_US + 3_000_000, SCHEMA, image(3).id)
    assert header.parents == [record.header.id]
    assert (header.dataset, header.late) == ("night 1", False)
    assert header.image is not None
    assert header.image.wcs is None
    assert header.image.place == place
    returned = decode([bytes(frame) for frame in encode(message)])
    assert {k: v.tolist() for k, v in returned.arrays.items() if v.dtype.kind != "f"} == {
        k: v.tolist() for k, v in message.arrays.items() if v.dtype.kind != "f"
    }
    assert returned.arrays["states.object_id"].tolist() == message.arrays["object_id"].tolist()
    assert returned.arrays["states.last_seen_us"].tolist() == [T0_US + 3_000_000] * 2


def test_limits_of_a_new_object_are_those_of_the_best_earlier_image() -> None:
    state = AssociatorState()
    for number, rms in enumerate([(0.2, 0.4), (0.1, 0.5), (0.1, 0.3), (0.3, 0.3)]):
        fold(state, sources(image(number), rms=rms))
    fold(state, sources(rejected(4), rms=(0.01, 0.01)))
    fold(state, sources(image(5, band="70 MHz"), rms=(0.01, 0.01)))
    found = only(fold(state, sources(image(6), [10.0, 40.0], [50.0, 50.0], rms=(0.01, 0.02)))).arrays
    # Detection at 8 sigma and a margin of 1.
    assert found["limit_low"] == pytest.approx([0.9, np.nan], nan_ok=True)
    assert found["limit_high"] == pytest.approx([2.7, np.nan], nan_ok=True)
    assert array_to_ids(found["limit_image_id"]) == [image(2).id, bytes(16)]
    assert found["n_earlier"].tolist() == [4, 0]
    matched = only(fold(state, sources(image(7), 10.0, 50.0))).arrays
    assert matched["link"].tolist() == [Link.ONE_TO_ONE]
    assert np.isnan(matched["limit_low"][0])
    assert matched["n_earlier"].tolist() == [0]


@pytest.mark.parametrize("broken", [{"rms_min": None}, {"rms_max": float("nan")}, {"detection_threshold": None}])
def test_an_image_without_noise_gives_no_limits(broken: dict[str, Any]) -> None:
    state = AssociatorState()
    record = sources(image(0))
    fold(state, Message(msgspec.structs.replace(record.header, **broken), record.arrays))
    assert only(fold(state, sources(image(1), 10.0, 50.0))).arrays["n_earlier"].tolist() == [0]


def test_an_image_is_folded_once() -> None:
    state = AssociatorState()
    record = sources(image(0), 10.0, 50.0)
    fold(state, record)
    before = frozen(state)
    assert fold(state, record) == ((), {"repeated_image": 1})
    assert step(state, image(0), None, SETTINGS) == ((), {"repeated_image": 1})
    assert frozen(state) == before


def test_only_so_many_images_are_remembered_the_newest() -> None:
    state = AssociatorState()
    few = SETTINGS.model_copy(update={"remember_images": 3})
    for number in range(5):
        step(state, image(number), None, few)
    assert list(state.folded) == [image(number).id for number in (2, 3, 4)]
    assert step(state, image(2), None, few).messages == ()


@pytest.mark.parametrize("record", [None, sources(rejected(1), 10.0, 50.0)], ids=["no sources", "rejected"])
def test_an_image_that_was_not_measured_gives_a_record_without_rows(record: Message[Sources] | None) -> None:
    state = AssociatorState()
    fold(state, sources(image(0), 10.0, 50.0))
    of = image(1) if record is None else record.header.image
    message = only(step(state, of, record, SETTINGS, dataset="default"))
    assert [len(array) for array in message.arrays.values()] == [0] * len(message.arrays)
    assert message.header.parents == ([] if record is None else [record.header.id])
    assert message.header.id == record_id(T0_US + 1_000_000, SCHEMA, of.id)
    encode(message)
    found = only(fold(state, sources(image(2), 10.4, 50.2))).arrays
    assert found["n_earlier"].tolist() == [1], "it covered nothing"


def test_unreadable_input_has_a_record_too() -> None:
    unreadable = Image(id=bytes(15) + b"x", quality=Quality(rejected=True), origin="broken.fits")
    message = only(step(AssociatorState(), unreadable, None, SETTINGS))
    assert message.header.image == unreadable
    assert message.header.id == record_id(0, SCHEMA, unreadable.id)
    assert not message.header.late


def test_late_is_older_than_an_image_that_was_measured() -> None:
    state = AssociatorState()
    starts = [(0, False), (10, False), (5, True), (10, False), (11, False), (9, True)]
    for number, (start_s, late) in enumerate(starts):
        record = sources(image(number, t_us=T0_US + start_s * 1_000_000), 10.0, 50.0)
        assert only(fold(state, record)).header.late is late, number
    # A rejected image may have any time in its header; it does not make others late.
    fold(state, sources(image(20, t_us=T0_US * 2, quality=Quality(rejected=True))))
    assert not only(fold(state, sources(image(21)))).header.late
    assert only(fold(state, sources(image(22)), passed_over=True)).header.late
    assert not only(fold(state, sources(image(1, band="x"), dataset="other"))).header.late


def test_datasets_do_not_see_each_other() -> None:
    state = AssociatorState()
    fold(state, sources(image(0), 10.0, 50.0))
    found = only(fold(state, sources(image(1), 10.0, 50.0, dataset="other"))).arrays
    assert found["link"].tolist() == [Link.NEW]
    assert found["n_earlier"].tolist() == [0]


def test_bands_share_objects_and_not_statistics() -> None:
    state = AssociatorState()
    fold(state, sources(image(0), 10.0, 50.0, 5.0))
    found = only(fold(state, sources(image(1, band="70 MHz"), 10.0, 50.0, 9.0))).arrays
    assert found["link"].tolist() == [Link.ONE_TO_ONE]
    assert (found["n"][0], found["flux_mean"][0]) == (1, 9.0)
    assert found["first_seen_us"].tolist() == [T0_US]


def test_an_empty_catalogue_and_an_empty_image() -> None:
    state = AssociatorState()
    for number in range(3):
        folded = fold(state, sources(image(number)))
        assert folded.dropped == {}
        assert all(len(array) == 0 for array in only(folded).arrays.values())
    assert only(fold(state, sources(image(3), 10.0, 50.0))).arrays["n_earlier"].tolist() == [3]


def without(record: Message[Sources], name: str) -> Message[Sources]:
    return Message(record.header, {key: array for key, array in record.arrays.items() if key != name})


def refusals() -> list[tuple[Image, Message[Sources], type[Exception], str]]:
    good = image(1)
    named = good.id.hex()
    return [
        (image(2), sources(good, 10.0, 50.0), ValueError, f"those of image {named}, not of image {image(2).id.hex()}"),
        (good, without(sources(good, 10.0, 50.0), "flux_int"), SchemaError, "'flux_int' is missing"),
        *(
            (bad, sources(bad, 10.0, 50.0), ValueError, text)
            for bad, text in (
                (msgspec.structs.replace(good, t_start_us=None), f"{named}.*no start or no band"),
                (msgspec.structs.replace(good, band=None), f"{named}.*no start or no band"),
                (msgspec.structs.replace(good, shape=None), f"{named}.*no shape"),
                (msgspec.structs.replace(good, wcs="nonsense" * 10), "no celestial axes|not a WCS"),
                (msgspec.structs.replace(good, beam=Beam(0.0, 0.0, 0.0)), f"{named}.*is no beam"),
                (msgspec.structs.replace(good, beam=Beam(float("nan"), 0.1, 0.0)), f"{named}.*is no beam"),
            )
        ),
    ]


@pytest.mark.parametrize(("of", "record", "error", "text"), refusals())
def test_what_cannot_be_folded_is_refused_and_changes_nothing(
    of: Image, record: Message[Sources], error: type[Exception], text: str
) -> None:
    state = AssociatorState()
    fold(state, sources(image(0), 10.0, 50.0))
    before = frozen(state)
    with pytest.raises(error, match=text):
        step(state, of, record, SETTINGS)
    assert frozen(state) == before
    assert only(fold(state, sources(image(3), 10.0, 50.0)))


def test_the_same_records_give_the_same_bytes() -> None:
    def run() -> list[Arrays]:
        rng, state = np.random.default_rng(12), AssociatorState()
        positions = [rng.uniform(-0.5, 0.5, (2, 30)) for _ in range(10)]
        records = [sources(image(k), 10 + x, 50 + y, rng.normal(5, 1, 30)) for k, (x, y) in enumerate(positions)]
        return [only(fold(state, record)).arrays for record in records]

    for a, b in zip(run(), run(), strict=True):
        assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}
