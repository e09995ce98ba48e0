from __future__ import annotations

import json
import math
import struct
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import lightcurve_messages as mesh
from trapline.common import ids
from trapline.database_dumper import event_rows, image_rows
from trapline.database_dumper.binary_copy import MAX_T_US, MIN_T_US, Field, encode_rows
from trapline.database_dumper.core import Tables, rows_of, tables_of
from trapline.database_dumper.lightcurve_rows import last_of_each, object_fields, point_fields, state_fields, state_ids
from trapline.schemas.columns import Kind, SchemaError, array_to_ids, ids_to_array
from trapline.schemas.image import Quality, Reason
from trapline.schemas.images import Command, Images
from trapline.schemas.lightcurves import POINTS, Lightcurves
from trapline.schemas.message import Message


def unpacked(data: bytes) -> list[list[bytes | None]]:
    """Fields of binary COPY rows, read one by one as PostgreSQL's documentation describes them."""
    rows, at = [], 0
    while at < len(data):
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row.append(None if length == -1 else data[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


def image_values(message: Message[Images]) -> dict[str, Any]:
    row = rows_of(mesh.place("images", 0), message).image
    assert row is not None
    return dict(zip(image_rows.COLUMNS, row, strict=True))


def tables(*messages: Message[Any]) -> Tables:
    return tables_of([rows_of(mesh.place("any", i), message) for i, message in enumerate(messages)])


def test_columns_become_rows_of_big_endian_fields() -> None:
    fields: dict[str, Field] = {
        "id": np.arange(32, dtype=np.uint8).reshape(2, 16),
        "flux": np.array([1.5, math.nan]),
        "snr": np.array([2.5, -math.inf], np.float32),
        "n": np.array([1, -2], np.int32),
        "kind": np.array([3, 4], np.int16),
        "same": b"abc",
        "empty": b"",
        "absent": None,
    }
    first, second = unpacked(encode_rows(fields))
    assert first == [
        bytes(range(16)), struct.pack(">d", 1.5), struct.pack(">f", 2.5), struct.pack(">i", 1), struct.pack(">h", 3),
        b"abc", b"", None,
    ]  # fmt: skip
    assert second[0] == bytes(range(16, 32))
    assert second[1] is not None
    assert math.isnan(struct.unpack(">d", second[1])[0])
    assert second[2:] == [struct.pack(">f", -math.inf), struct.pack(">i", -2), struct.pack(">h", 4), b"abc", b"", None]


def test_no_rows_are_no_bytes() -> None:
    assert encode_rows({"n": np.empty(0, np.int32), "same": b"abc"}) == b""


def test_constant_bytes_keep_their_trailing_zeros() -> None:
    assert unpacked(encode_rows({"n": np.array([7], np.int32), "same": b"a\0b\0\0"})) == [[b"\0\0\0\7", b"a\0b\0\0"]]


def test_an_image_becomes_a_row_of_what_its_header_says() -> None:
    row = image_values(mesh.images_message(3, dataset="deep"))
    of = mesh.image(3)
    assert row["_id"].bytes == of.id
    assert row["dataset"].bytes == ids.fact_id(0, "dataset", "deep")
    assert row["t"] == datetime(2023, 11, 14, 22, 13, 23, 123457, tzinfo=UTC)
    assert (row["nx"], row["ny"]) == (1020, 1024)
    assert (row["band"], row["freq_hz"], row["filter"]) == ("60.1 MHz", 60.1e6, None)
    assert (row["rejected"], row["reasons"], row["flags"]) == (False, "[]", [])


def test_unreadable_input_becomes_a_row_of_nulls_and_reasons() -> None:
    row = image_values(mesh.rejected(1))
    known = {name for name, value in row.items() if value is not None}
    assert known == {"_id", "dataset", "origin", "rejected", "reasons", "flags", "margin_px", "role"}
    assert row["rejected"] is True
    assert json.loads(row["reasons"]) == [{"check": "header", "text": "no key BMAJ, BMIN"}]
    assert row["flags"] == ["no WCS"]


def test_what_no_column_holds_is_cleaned_from_text_and_json() -> None:
    quality = Quality(rejected=True, reasons=[Reason("a\0b", "c\0d\\u0000", math.nan, math.inf)], flags=["e\0f"])
    row = image_values(mesh.images_message(0, quality=quality, origin="/\0/x", wcs="\0", stokes="\0"))
    assert not any("\0" in str(value) for value in row.values())
    reason = {"check": "a\N{REPLACEMENT CHARACTER}b", "text": "c\N{REPLACEMENT CHARACTER}d\\u0000"}
    assert json.loads(row["reasons"]) == [reason | {"value": None, "limit": None}]


@pytest.mark.parametrize("t_us", [MIN_T_US - 1, MAX_T_US + 1, 2**63 - 1, -(2**63)])
def test_times_that_no_client_can_read_are_refused_by_name(t_us: int) -> None:
    with pytest.raises(SchemaError, match=r"t_start_us.* years 1 to 9999"):
        rows_of(mesh.place("images", 0), mesh.images_message(0, t_start_us=t_us))
    objects = mesh.object_ids(2)
    with pytest.raises(SchemaError, match=r"t_start_us.* years 1 to 9999"):
        rows_of(
            mesh.place("lightcurves", 0), mesh.lightcurves_message(0, objects, image=mesh.image(0, t_start_us=t_us))
        )
    with pytest.raises(SchemaError, match=r"t_us.* years 1 to 9999"):
        rows_of(mesh.place("transients", 0), mesh.event(0, objects[0], t_us=t_us))
    for column in ("first_seen_us", "states.last_seen_us"):
        message = mesh.lightcurves_message(0, objects)
        arrays = dict(message.arrays) | {column: np.array([0, t_us])}
        with pytest.raises(SchemaError, match=f"{column}.* years 1 to 9999"):
            rows_of(mesh.place("lightcurves", 0), Message(message.header, arrays))


def test_sizes_that_fit_no_column_are_refused_by_name() -> None:
    with pytest.raises(SchemaError, match=r"image\.shape = 4294967296 does not fit"):
        rows_of(mesh.place("images", 0), mesh.images_message(0, shape=(1 << 32, 1)))


def test_rows_without_an_image_are_refused() -> None:
    message = mesh.lightcurves_message(0, mesh.object_ids(1))
    for missing in ({"t_start_us": None}, {"band": None}):
        header = Lightcurves(schema="", id=bytes(16), image=mesh.image(0, **missing))
        with pytest.raises(SchemaError, match="needs `image` with `t_start_us` and `band`"):
            rows_of(mesh.place("lightcurves", 0), Message(header, message.arrays))


def test_commands_and_the_end_of_a_stream_are_places_without_rows() -> None:
    command = Images(schema="", id=bytes(16), command=Command("monitor_add", bytes(16), 1.0, 2.0, "x"))
    end = Images(schema="", id=bytes(16), end_of_stream=True)
    answer = Lightcurves(schema="", id=bytes(16), command="monitor_add")
    made = tables(Message(command), Message(end), Message(answer, POINTS.empty()))
    assert made.datasets == made.images == made.events == []
    assert made.points.pieces == made.objects.pieces == made.states.pieces == []


def test_of_an_object_that_occurs_often_the_last_row_stays() -> None:
    objects = mesh.object_ids(5)
    picks = [objects, objects[3:0:-1], objects[:1], objects[1:2]]
    messages = [mesh.lightcurves_message(i, pick, seed=i) for i, pick in enumerate(picks)]
    blocks = [b for m in messages if (b := rows_of(mesh.place("lightcurves", 0), m).block)]
    expected = {
        o: m.arrays["object_ra_deg"][i] for m, pick in zip(messages, picks, strict=True) for i, o in enumerate(pick)
    }
    fields = object_fields(blocks)
    found = dict(zip(array_to_ids(np.asarray(fields["_id"])), np.asarray(fields["ra_deg"]), strict=True))
    assert found == expected
    (states,) = state_fields(blocks)
    expected = {
        o: m.arrays["states.eta"][i] for m, pick in zip(messages, picks, strict=True) for i, o in enumerate(pick)
    }
    assert dict(zip(array_to_ids(np.asarray(states["object"])), np.asarray(states["eta"]), strict=True)) == expected


def test_last_seen_is_the_latest_blind_point_whatever_came_last() -> None:
    objects = mesh.object_ids(2)
    late = mesh.lightcurves_message(1, objects)
    messages = [mesh.lightcurves_message(5, objects[:1]), late, mesh.lightcurves_message(9, objects, kind=Kind.FORCED)]
    blocks = [b for m in messages if (b := rows_of(mesh.place("lightcurves", 0), m).block)]
    fields = object_fields(blocks)
    last_seen = dict(zip(array_to_ids(np.asarray(fields["_id"])), np.asarray(fields["last_seen"]), strict=True))
    start = mesh.START_US - 946_684_800_000_000
    assert last_seen == {objects[0]: start + 5 * mesh.STEP_US, objects[1]: start + mesh.STEP_US}


def test_last_of_each_agrees_with_a_dictionary() -> None:
    rng = np.random.default_rng(3)
    keys = [bytes([k]) * 16 for k in rng.integers(0, 40, 300)]
    rows, last = last_of_each(ids_to_array(keys))
    assert {keys[i]: i for i in range(300)} == {keys[i]: i for i in last}
    assert all(keys[last[number]] == key for number, key in zip(rows, keys, strict=True))
    assert [len(a) for a in last_of_each(np.empty((0, 16), np.uint8))] == [0, 0]


def test_states_of_different_bands_have_different_ids_that_keep_the_time() -> None:
    objects = mesh.object_ids(100)
    arrays = ids_to_array(objects)
    found = {band: array_to_ids(state_ids(arrays, band.encode())) for band in ("", "60 MHz", "60 MHz V")}
    every = [i for band in found.values() for i in band]
    assert len(set(every + objects)) == 400
    for i, o in zip(found["60 MHz"], objects, strict=True):
        assert ids.id_time_us(i) == ids.id_time_us(o)
        assert (uuid.UUID(bytes=i).version, uuid.UUID(bytes=i).variant) == (8, uuid.RFC_4122)


def test_counts_and_flags_of_32_bits_fit_integer_columns() -> None:
    message = mesh.lightcurves_message(0, mesh.object_ids(2))
    arrays = dict(message.arrays)
    arrays["n"] = np.array([7, 2**32 - 1], np.uint32)
    arrays["flags"] = np.array([2**31 + 5, 255], np.uint32)
    block = rows_of(mesh.place("lightcurves", 0), Message(message.header, arrays)).block
    assert block is not None
    fields = point_fields(block)
    assert np.asarray(fields["n"]).tolist() == [7, 2**31 - 1]
    assert (np.asarray(fields["flags"]).astype(np.int64) % 2**32).tolist() == [2**31 + 5, 255]


def test_an_event_becomes_a_row_with_its_reason() -> None:
    target = mesh.object_ids(1)[0]
    earlier = mesh.image(0).id
    message = mesh.event(3, target, rule={"x": math.nan, "y\0": 2.0}, limits_image=earlier, certain=True, v=0.5)
    row = rows_of(mesh.place("transients", 0), message).event
    assert row is not None
    values = dict(zip(event_rows.COLUMNS, row, strict=True))
    assert (values["_id"].bytes, values["object"].bytes) == (message.header.event_id, target)
    assert json.loads(values["reason"]) == {
        "rule": {"x": None, "y\N{REPLACEMENT CHARACTER}": 2.0},
        "certain": True,
        "limits_image": ids.text_id(earlier),
        "image": ids.text_id(mesh.image(3).id),
        "n": 20,
        "v": 0.5,
        "eta": None,
    }


def test_messages_that_travelled_give_the_same_rows() -> None:
    objects = mesh.object_ids(20)
    messages = [
        mesh.images_message(0),
        mesh.lightcurves_message(0, objects),
        mesh.event(0, objects[0]),
        mesh.rejected(1),
    ]
    assert tables(*map(mesh.travelled, messages[1:3])) == tables(*messages[1:3])
    headers = [Message(mesh.travelled(m).header) for m in (messages[0], messages[3])]
    assert tables(*headers) == tables(messages[0], messages[3])
