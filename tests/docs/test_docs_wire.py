"""The page about the wire: it is that of the structs, and real answers have the keys that it says."""

from typing import get_args

import msgpack
import msgspec
import pytest

from common_relay import Bench, cursor, item
from trapline.common.relay.document import ANSWERS, COMMAND, PAGE, answer_keys, page
from trapline.common.relay.requests import AnyRequest
from trapline.schemas.examples import example_id


def test_the_page_is_that_of_the_structs():
    assert PAGE.read_text() == page(), f"{PAGE.name} is stale: run `{COMMAND}`"


def test_every_request_is_described_with_its_answer():
    ops = {request.__struct_config__.tag for request in get_args(AnyRequest)}
    assert set(ANSWERS) == ops - {"tick"}
    for op in ops:
        assert f"### {op}\n" in page()


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.append("images/0", *(b"%d" % n for n in range(3)))
    made.lease()
    yield made
    made.close()


ASKED = {
    "info": {},
    "fetch": {"cursors": [cursor()]},
    "find": {"channel": "images", "partition": "0", "t_us": 0},
    "lease": {"group": "g", "worker": "w", "channels": ["images"]},
    "extend": {"group": "g", "worker": "w1", "items": [item(0)]},
    "ack": {"group": "g", "items": [item(0)]},
    "nack": {"group": "g", "items": [item(0)]},
    "leave": {"group": "g", "worker": "w1"},
    "position": {"reader": "me", "reads": [{"channel": "images", "partition": "0", "seq": 1, "safe": 1}]},
    "positions": {"reader": "me"},
    "forget": {"name": "nobody"},
    "append": {"channel": "remarks", "partition": "me"},
}


@pytest.mark.parametrize("op", ANSWERS)
def test_an_answer_has_the_keys_that_the_page_says(bench, op):
    body = [msgpack.packb({"id": example_id(1)})] if op == "append" else []
    answer = bench.ask(*body, op=op, **ASKED[op]).values
    assert set(answer) == {"id", "ok"} | answer_keys(op)
    for key, meaning in ANSWERS[op].items():
        rows = answer[key]
        if isinstance(rows, list) and rows and "`" in meaning:
            assert all(f"`{name}`" in meaning for name in rows[0] if name != "records"), key


def test_a_refusal_is_a_sentence(bench):
    answer = bench.ask(op="fetch", cursors="all").values
    assert (answer["ok"], set(answer)) == (False, {"id", "ok", "error"})
    assert isinstance(msgspec.to_builtins(answer["error"]), str)
