"""Messages: what is written is read, nothing is copied, and nothing malformed gets through."""

import msgpack
import msgspec
import numpy as np
import pytest

from trapline.schemas.columns import SchemaError, array_to_ids, ids_to_array
from trapline.schemas.document import COMMAND, generated, golden
from trapline.schemas.examples import example_id, example_messages, rejected_example
from trapline.schemas.message import Message, decode, decode_header, encode
from trapline.schemas.registry import BUILT_IN, schema_of
from trapline.schemas.sources import COLUMNS

EXAMPLES = {schema_of(type(m.header)).channel: m for m in example_messages()}


@pytest.mark.parametrize("message", [*EXAMPLES.values(), rejected_example()], ids=[*EXAMPLES, "rejected"])
def test_what_is_encoded_is_decoded(message):
    decoded = decode([bytes(frame) for frame in encode(message)])
    assert msgspec.structs.replace(decoded.header, frames=[]) == message.header
    assert list(decoded.arrays) == list(message.arrays)
    for name, array in message.arrays.items():
        assert decoded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(decoded.arrays[name], array)


def test_there_is_an_example_of_every_schema():
    assert set(EXAMPLES) == {schema.channel for schema in BUILT_IN}


@pytest.mark.parametrize("channel", EXAMPLES)
def test_decoding_copies_no_array(channel):
    frames = [bytearray(frame) for frame in encode(EXAMPLES[channel])]
    decoded = decode([memoryview(frame) for frame in frames])
    for frame, array in zip(frames[1:], decoded.arrays.values(), strict=True):
        assert np.shares_memory(array, np.frombuffer(frame, np.uint8))
        assert not array.flags.writeable


def test_encoding_copies_no_contiguous_array():
    message = EXAMPLES["images"]
    assert np.shares_memory(np.frombuffer(encode(message)[1], np.uint8), message.arrays["pixels"])


def test_arrays_that_are_not_little_endian_or_contiguous_are_written_as_if_they_were():
    header = EXAMPLES["images"].header
    pixels = np.arange(12, dtype=">f4").reshape(3, 4).T
    np.testing.assert_array_equal(decode(encode(Message(header, {"pixels": pixels}))).arrays["pixels"], pixels)


@pytest.mark.parametrize(("path", "content"), list(generated().items()), ids=lambda v: getattr(v, "name", ""))
def test_generated_files_are_those_of_the_structs(path, content):
    assert path.is_file() and path.read_bytes() == content, f"{path.name} is stale: run `{COMMAND}`"


@pytest.mark.parametrize(("path", "content"), list(golden().items()), ids=lambda v: getattr(v, "name", ""))
def test_golden_messages_are_still_written_and_read(path, content):
    assert path.read_bytes() == content, f"{path.name}: the bytes of a released version changed, or run `{COMMAND}`"
    message = EXAMPLES[path.name.partition("-")[0]]
    decoded = decode(msgpack.unpackb(path.read_bytes()))
    assert msgspec.structs.replace(decoded.header, frames=[]) == message.header


def frames_with(**changes):
    """Return a sources message whose header has other values."""
    frames = [bytes(frame) for frame in encode(EXAMPLES["sources"])]
    header = msgpack.unpackb(frames[0]) | changes
    return [msgpack.packb(header), *frames[1:]]


def test_a_newer_minor_version_with_unknown_fields_is_read():
    decoded = decode(frames_with(schema="trapline.sources/1.7", colour="blue"))
    assert decoded.header.schema == "trapline.sources/1.7"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": "trapline.sources/2.0"}, "newer than this program"),
        ({"schema": "trapline.sources"}, "no version"),
        ({"schema": "other.thing/1.0"}, "unknown message"),
        ({"schema": None}, "unknown message"),
        ({"id": b"short"}, r"\$\.id"),
        ({"id": "text"}, r"\$\.id"),
        ({"rms_min": "low"}, r"\$\.rms_min"),
        ({"image": 3}, r"\$\.image"),
        ({"frames": []}, "names 0 arrays"),
    ],
)
def test_a_wrong_header_is_refused_with_the_path_of_what_is_wrong(changes, words):
    with pytest.raises(SchemaError, match=words):
        decode(frames_with(**changes))


@pytest.mark.parametrize(
    "frame",
    [
        {"name": "kind", "dtype": "O", "shape": [2]},
        {"name": "kind", "dtype": "u1", "shape": [-2]},
        {"name": "kind", "dtype": "u1", "shape": [3]},
        {"name": "kind", "dtype": "f8", "shape": [2**62, 2**62]},
        {"name": "kind", "dtype": "u1", "shape": [1] * 40},
        {"name": "kind", "dtype": "f4", "shape": [2]},
    ],
    ids=lambda f: f"{f['dtype']}{f['shape'][:2]}",
)
def test_a_frame_that_is_not_what_the_header_says_is_refused(frame):
    header = msgpack.unpackb(frames_with()[0])
    index = [f["name"] for f in header["frames"]].index("kind")
    header["frames"][index] = frame
    with pytest.raises(SchemaError):
        decode([msgpack.packb(header), *frames_with()[1:]])


@pytest.mark.parametrize("column", [c.name for c in COLUMNS.columns])
def test_a_missing_column_is_named(column):
    message = EXAMPLES["sources"]
    rest = {name: array for name, array in message.arrays.items() if name != column}
    with pytest.raises(SchemaError, match=repr(column)):
        encode(Message(message.header, rest))


def test_columns_of_unequal_length_are_refused():
    message = EXAMPLES["sources"]
    with pytest.raises(SchemaError, match="same number"):
        encode(Message(message.header, {**message.arrays, "x": np.zeros(5)}))


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x93\x01", b"text", b"\x81\xa1a", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff"]
)
def test_bytes_that_are_no_header_are_refused(data):
    with pytest.raises(SchemaError):
        decode_header(data)


def test_no_frames_at_all_are_refused():
    with pytest.raises(SchemaError, match="at least one frame"):
        decode([])


def test_random_damage_never_gives_another_error():
    random = np.random.default_rng(7)
    frames = [bytes(frame) for frame in encode(EXAMPLES["sources"])]
    survived = 0
    for _ in range(2000):
        header = bytearray(frames[0])
        for position in random.integers(0, len(header), 3):
            header[position] = random.integers(0, 256)
        try:
            decode([bytes(header), *frames[1:]])
            survived += 1
        except SchemaError:
            pass
    assert 0 < survived < 2000


def test_ids_and_arrays_of_ids_are_each_other():
    ids = [example_id(i) for i in range(5)]
    assert array_to_ids(ids_to_array(ids)) == ids
    assert ids_to_array([]).shape == (0, 16)
