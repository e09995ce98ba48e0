"""Messages of other versions: a newer minor is read, a newer major is refused with a sentence. Held by golden bytes."""

from pathlib import Path

import msgpack
import numpy as np
import pytest

import trapline.schemas.document
from trapline.schemas.columns import NewerSchemaError, SchemaError
from trapline.schemas.described import Unregistered
from trapline.schemas.message import decode, decode_header
from trapline.schemas.registry import schema_named

GOLDEN = sorted((Path(trapline.schemas.document.__file__).parent / "golden").glob("*.msgpack"))


def golden(path, version=None, **more):
    """Return the frames of a golden message, as another version would write them."""
    header, *arrays = msgpack.unpackb(path.read_bytes())
    values = msgpack.unpackb(header)
    if version:
        values["schema"] = f"{values['schema'].partition('/')[0]}/{version}"
    return [msgpack.packb(values | more), *arrays]


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_every_golden_message_is_read(path):
    message = decode(golden(path))
    assert schema_named(message.header.schema).schema == message.header.schema


def test_a_newer_minor_is_read_with_new_fields_and_arrays_left_alone(path):
    now = decode(golden(path))
    frames = golden(path, "1.7", colour="blue", spectrum={"index": -0.7})
    header = msgpack.unpackb(frames[0])
    header["frames"] = [*header.get("frames", []), {"name": "later.polarisation", "dtype": "f4", "shape": [3]}]
    later = decode([msgpack.packb(header), *frames[1:], np.ones(3, "<f4").tobytes()])
    assert later.header.schema.endswith("/1.7")
    own = [name for name in now.header.__struct_fields__ if name not in ("schema", "frames")]
    assert [getattr(later.header, name) for name in own] == [getattr(now.header, name) for name in own]
    assert list(later.arrays) == [*now.arrays, "later.polarisation"]


@pytest.mark.parametrize("lenient", [False, True], ids=["services", "clients"])
def test_a_newer_major_is_refused_with_a_sentence(path, lenient):
    frames = golden(path, "2.0")
    ours = decode_header(golden(path)[0]).schema
    name = ours.partition("/")[0]
    words = f"message '{name}/2.0' is newer than this program, which reads '{ours}': upgrade it"
    with pytest.raises(NewerSchemaError) as refusal:
        decode(frames, unknown_ok=lenient)
    assert str(refusal.value) == words


def test_a_message_of_a_plugin_is_read_by_what_it_says_of_itself(path):
    frames = golden(path, None, schema="plugin.flares/3.2", ratio=4.5)
    with pytest.raises(SchemaError, match=r"unknown message 'plugin\.flares/3\.2'; known are "):
        decode(frames)
    message = decode(frames, unknown_ok=True)
    assert isinstance(message.header, Unregistered)
    assert (message.header.schema, message.header.fields["ratio"]) == ("plugin.flares/3.2", 4.5)
    assert list(message.arrays) == list(decode(golden(path)).arrays)
