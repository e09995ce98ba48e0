from __future__ import annotations

import msgspec
import numpy as np
import pytest

from extractor_skies import Field, grid_field, make_image, round_beam
from trapline.common.ids import blind_source_id, id_time_us
from trapline.schemas.columns import Kind, array_to_ids, ids_to_array
from trapline.schemas.header import Place
from trapline.schemas.image import Band, Quality, Reason
from trapline.schemas.images import SCHEMA as IMAGES_SCHEMA
from trapline.schemas.images import Images
from trapline.schemas.message import Message, decode, encode
from trapline.schemas.sources import COLUMNS, SCHEMA, Sources
from trapline.schemas.watchlist import REMEASURE_SCHEMA, Remeasure
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure_again, measure_image
from trapline.source_extractor.watchlist import Watchlist, Watchlists

PLACE = Place("images", "0", 2, 41)
SETTINGS = ExtractorConfig(detection_threshold=7.0, analysis_threshold=4.0)
FIELD: Field = grid_field(
    1, make_image((240, 300), round_beam(4), margin_px=5, band=Band("test", 60e6, 1e5)), spacing_px=48, snr=(20, 90)
)


def record(**changes: object) -> Message[Images]:
    header = Images(schema=IMAGES_SCHEMA, id=b"r" * 16, dataset="night", trace="00-aa-bb-01", image=FIELD.image)
    return Message(msgspec.structs.replace(header, **changes), {"pixels": FIELD.pixels})


def test_a_record_travels_and_says_where_its_image_stands() -> None:
    answer = measure_image(record(), SETTINGS, PLACE)
    back = decode([bytes(frame) for frame in encode(answer)])
    assert isinstance(back.header, Sources)
    assert back.header.schema == SCHEMA
    assert back.header.image == msgspec.structs.replace(FIELD.image, place=PLACE)
    assert (back.header.dataset, back.header.parents, back.header.trace) == ("night", [b"r" * 16], "00-aa-bb-01")
    assert (back.header.detection_threshold, back.header.analysis_threshold) == (7.0, 4.0)
    assert back.header.rms_min is not None
    assert back.header.rms_max is not None
    assert back.header.rms_min <= back.header.rms_max
    assert COLUMNS.check(back.arrays) == len(FIELD.x)
    assert set(back.arrays) == {column.name for column in COLUMNS.columns}


def test_rows_are_in_order_and_their_ids_are_ranks() -> None:
    columns = measure_image(record(), SETTINGS, PLACE).arrays
    order = np.lexsort((columns["x"], columns["y"]))
    assert list(order) == list(range(len(FIELD.x)))
    t_us = FIELD.image.t_start_us
    assert t_us is not None
    ids = array_to_ids(columns["source_id"])
    assert ids == [blind_source_id(t_us, FIELD.image.id, rank) for rank in range(len(FIELD.x))]
    assert {id_time_us(one) for one in ids} == {t_us // 1000 * 1000}


def test_what_a_blind_source_has_not_is_nan_or_zero() -> None:
    columns = measure_image(record(), SETTINGS, PLACE).arrays
    assert not columns["kind"].any()
    assert not columns["object_id"].any()
    assert np.isnan(columns["watch_ra_deg"]).all()
    assert np.isnan(columns["watch_dec_deg"]).all()


def test_the_same_image_gives_the_same_bytes() -> None:
    first, again = (measure_image(record(), SETTINGS, PLACE) for _ in range(2))
    assert first.header == again.header
    assert [bytes(frame) for frame in encode(first)] == [bytes(frame) for frame in encode(again)]


def test_a_rejected_image_gives_a_record_without_rows() -> None:
    rejected = msgspec.structs.replace(FIELD.image, quality=Quality(rejected=True, reasons=[Reason("flat")]))
    answer = measure_image(record(image=rejected), SETTINGS, PLACE)
    assert len(answer.arrays["x"]) == 0
    assert (answer.header.rms_min, answer.header.rms_max) == (None, None)
    assert answer.header.id == measure_image(record(), SETTINGS, PLACE).header.id, "one image, one record"
    assert decode([bytes(frame) for frame in encode(answer)]).header == msgspec.structs.replace(
        answer.header, frames=decode([bytes(frame) for frame in encode(answer)]).header.frames
    )


def test_an_unreadable_image_of_which_only_the_id_is_known_is_answered() -> None:
    bare = msgspec.convert({"id": b"u" * 16, "quality": {"rejected": True}}, type(FIELD.image), builtin_types=(bytes,))
    header = Images(schema=IMAGES_SCHEMA, id=b"r" * 16, image=bare)
    answer = measure_image(Message(header), SETTINGS, PLACE)
    assert answer.header.image.place == PLACE
    assert len(answer.arrays["x"]) == 0


def test_records_that_cannot_be_measured_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="no image"):
        measure_image(record(image=None, end_of_stream=True), SETTINGS, PLACE)
    with pytest.raises(ValueError, match="no pixels"):
        measure_image(Message(record().header), SETTINGS, PLACE)


def with_weights(weight: object) -> Message[Images]:
    return Message(record().header, {"pixels": FIELD.pixels, "weight": np.asarray(weight)})


def test_the_weights_of_an_image_are_its_noise_map() -> None:
    weight = np.full(FIELD.pixels.shape, 0.25, np.float32)
    weight[:, 150:] = 1 / 9
    weight[:60] = 0
    answer = measure_image(with_weights(weight), SETTINGS, PLACE)
    assert answer.header.rms_min is not None
    assert (answer.header.rms_min, answer.header.rms_max) == pytest.approx((2.0, 3.0))
    x, y, peak, snr = (np.asarray(answer.arrays[name], float) for name in ("x", "y", "flux_peak", "snr"))
    assert len(x)
    assert y.min() > 58, "what has no weight is not looked at"
    assert snr == pytest.approx(peak / np.where(x < 149.5, 2.0, 3.0), rel=1e-5)
    plain = measure_image(record(), SETTINGS, PLACE)
    assert len(plain.arrays["x"]) > len(x)


def test_forced_values_with_weights_are_the_same_whenever_they_are_measured() -> None:
    weight = np.random.default_rng(3).uniform(0.1, 0.3, FIELD.pixels.shape).astype(np.float32)
    weight[::7, ::5] = 0
    image = with_weights(weight)
    rows = {
        "object_id": ids_to_array([bytes([i]) * 16 for i in range(40)]),
        "ra_deg": 150 + np.linspace(-0.15, 0.15, 40),
        "dec_deg": 35 + np.linspace(0.1, -0.1, 40),
        "kind": np.full(40, Kind.FORCED, np.uint8),
    }
    watchlist = Watchlist()
    watchlist.update(4, rows, full=True)
    along = measure_image(image, SETTINGS, PLACE, Watchlists((watchlist,)))
    forced = along.arrays["kind"] == Kind.FORCED
    assert forced.sum() > 20
    request = Message(Remeasure(schema=REMEASURE_SCHEMA, id=b"q" * 16, image_place=PLACE, sources_place=PLACE), rows)
    blind = measure_image(image, SETTINGS, PLACE)
    again = measure_again(request, image, blind, SETTINGS)
    row = [
        array_to_ids(again.arrays["object_id"]).index(one) for one in array_to_ids(along.arrays["object_id"][forced])
    ]
    for name in ("flux_int", "flux_int_err", "snr", "flags"):
        assert along.arrays[name][forced].tobytes() == again.arrays[name][row].tobytes(), name


@pytest.mark.parametrize(
    ("weight", "text"), [(np.ones((300, 240), np.float32), "noise map"), (np.ones(7, np.float32), "noise map")]
)
def test_weights_of_another_shape_are_refused(weight: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        measure_image(with_weights(weight), SETTINGS, PLACE)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e-45])
def test_weights_that_are_none_leave_nothing(value: float) -> None:
    answer = measure_image(with_weights(np.full(FIELD.pixels.shape, value, np.float32)), SETTINGS, PLACE)
    assert len(answer.arrays["x"]) == 0
