"""What a key may do: every request of the protocol, with and without the right to it."""

import msgpack
import pytest
import zmq

from common_relay import Bench, cursor, item
from trapline.common.config import ConfigError
from trapline.common.relay.requests import AnyRequest
from trapline.common.security.trust import Rights, TrustList, load_rights, revoke, trust

READER, NOBODY, STRANGER = (zmq.curve_keypair()[0].decode() for _ in range(3))
RECORD = msgpack.packb({"id": bytes(16)})
PLACE = {"channel": "images", "partition": "0"}
HIDDEN = {"channel": "secret", "partition": "0"}


@pytest.fixture
def bench(tmp_path):
    trusted = tmp_path / "trusted"
    trust(
        trusted,
        Rights(
            "archive",
            READER,
            read=frozenset({"images", "status"}),
            publish=frozenset({"follow_up"}),
            groups=frozenset({"mirror"}),
        ),
    )
    trust(trusted, Rights("nobody", NOBODY, read=frozenset()))
    bench = Bench(tmp_path, TrustList(trusted))
    bench.append("images/0", b"a", b"b")
    bench.append("secret/0", b"a", b"b")
    bench.later()
    yield bench
    bench.close()


ALLOWED = {
    "info": {},
    "fetch": {"cursors": [cursor()]},
    "find": {**PLACE, "t_us": 0},
    "lease": {"group": "mirror", "worker": "w", "channels": ["images"]},
    "extend": {"group": "archive", "worker": "w", "items": [item(0)], "handling": [item(0)]},
    "ack": {"group": "archive-1", "items": [item(0)]},
    "nack": {"group": "mirror-2", "items": [item(0)]},
    "leave": {"group": "archive", "worker": "w"},
    "position": {"reader": "archive", "reads": [{**PLACE, "seq": 1, "safe": 1}]},
    "positions": {"reader": "archive"},
    "forget": {"name": "archive"},
    "tick": {"channel": "follow_up", "partition": "0"},
    "append": {"channel": "follow_up", "partition": "0"},
}
REFUSED = [
    ("fetch", {"cursors": [cursor(), cursor(channel="secret")]}, "read"),
    ("find", {**HIDDEN, "t_us": 0}, "read"),
    ("lease", {**ALLOWED["lease"], "channels": ["images", "secret"]}, "read"),
    ("lease", {**ALLOWED["lease"], "group": "source_extractor"}, "group"),
    ("extend", {**ALLOWED["extend"], "handling": [item(0, channel="secret")]}, "read"),
    ("extend", {**ALLOWED["extend"], "items": [item(0, channel="secret")]}, "read"),
    ("extend", {**ALLOWED["extend"], "group": "archives"}, "group"),
    ("ack", {"group": "archive", "items": [item(0, channel="secret")]}, "read"),
    ("ack", {"group": "source_extractor", "items": [item(0)]}, "group"),
    ("nack", {"group": "source_extractor", "items": [item(0)], "failed": True}, "group"),
    ("nack", {"group": "archive", "items": [item(0, channel="secret")]}, "read"),
    ("leave", {"group": "source_extractor", "worker": "source_extractor-0"}, "group"),
    ("position", {"reader": "associator-0", "reads": []}, "group"),
    ("position", {"reader": "archive", "reads": [{**HIDDEN, "seq": 1, "safe": 1}]}, "read"),
    ("positions", {"reader": "associator-0"}, "group"),
    ("forget", {"name": "associator-0"}, "group"),
    ("tick", {"channel": "images", "partition": "0"}, "publish"),
    ("append", {"channel": "images", "partition": "9"}, "publish"),
]


def ask(bench, op, request, who):
    body = [RECORD] if op == "append" else []
    return bench.ask(*body, op=op, who=who, **request)


def test_every_request_that_there_is_is_looked_at_here():
    assert {struct.__struct_config__.tag for struct in AnyRequest.__args__} == set(ALLOWED)


@pytest.mark.parametrize("op", ALLOWED)
def test_what_is_allowed_is_served(bench, op):
    answer = ask(bench, op, ALLOWED[op], READER)
    assert answer is None if op == "tick" else answer.values["ok"]


@pytest.mark.parametrize(("op", "request_", "kind"), REFUSED)
def test_what_is_not_allowed_is_refused_with_the_way_out_and_counted(bench, op, request_, kind):
    answer = ask(bench, op, request_, READER)
    option = {"group": "--groups", "read": "--read", "publish": "--publish"}[kind]
    assert not answer.values["ok"]
    assert f"trapline keys trust archive {option}" in answer.values["error"]
    assert bench.core.counters[f"refused_{kind}"] == 1
    assert ask(bench, op, request_, None) is None or ask(bench, op, request_, None).values["ok"]


@pytest.mark.parametrize("op", ALLOWED)
@pytest.mark.parametrize(
    # Keys are drawn anew by each worker of the test run, so they cannot name the tests.
    "who",
    ["", STRANGER, READER[:-1], READER + "x"],
    ids=["no key", "stranger", "a character less", "a character more"],
)
def test_who_is_not_trusted_gets_nothing(bench, op, who):
    answer = ask(bench, op, ALLOWED[op], who)
    assert "does not trust your key" in answer.values["error"]
    assert bench.core.counters["refused_untrusted"] == 1


def test_what_may_not_be_read_does_not_show(bench):
    for group in ("g", "archive"):
        for channel in ("images", "secret"):
            bench.ask(op="ack", group=group, items=[item(0, channel=channel)])
            bench.ask(op="position", reader=group, reads=[{"channel": channel, "partition": "0", "seq": 1, "safe": 1}])
    seen = bench.ask(op="info", who=READER).values
    rows = [row for key in ("partitions", "groups", "readers") for row in seen[key]]
    assert len(rows) == 5 and {row["channel"] for row in rows} == {"images"}
    answer = bench.ask(op="find", channel="images", partition="7", t_us=0, who=READER)
    assert "images/0" in answer.values["error"] and "secret" not in answer.values["error"]
    hidden = bench.ask(op="info", who=NOBODY).values
    assert not any(hidden[key] for key in ("partitions", "groups", "readers"))
    assert len(bench.ask(op="info").values["partitions"]) == 2


def test_the_answer_to_positions_holds_nothing_that_may_not_be_read(bench):
    reads = [{**place, "seq": 1, "safe": 1} for place in (PLACE, HIDDEN)]
    bench.ask(op="position", reader="archive", reads=reads)
    answer = bench.ask(op="positions", reader="archive", who=READER)
    assert {row["channel"] for row in answer.values["positions"]} == {"images"}


def test_a_key_cannot_touch_the_leases_of_another_group_by_the_name_of_its_worker(bench):
    bench.lease("source_extractor-0", "source_extractor", max_records=2)
    bench.ask(op="extend", group="source_extractor", worker="source_extractor-0", items=[item(0)], handling=[item(0)])
    bench.ask(op="leave", group="archive", worker="source_extractor-0", who=READER)
    waiting = {"group": "mirror", "worker": "source_extractor-0", "channels": ["status"], "wait_ms": 60_000}
    bench.ask(op="lease", peer=b"gone", who=READER, **waiting)
    bench.core.forget_peer(b"gone")
    assert [g["leased"] for g in bench.ask(op="info").values["groups"] if g["group"] == "source_extractor"] == [2]


def test_a_star_is_every_channel_and_every_group(bench, tmp_path):
    everything = frozenset({"*"})
    trust(tmp_path / "trusted", Rights("host-b", STRANGER, everything, everything, everything))
    bench.core.guard._refresh_at = 0.0
    for op, request, _ in REFUSED:
        answer = ask(bench, op, request, STRANGER)
        assert answer is None or answer.values["ok"], op


def test_trusting_again_changes_the_rights_and_another_key_is_not_taken_for_it(tmp_path):
    trust(tmp_path, Rights("archive", READER))
    path = trust(tmp_path, Rights("archive", READER, publish=frozenset({"follow_up"})))
    assert load_rights(path).publish == {"follow_up"} and load_rights(path).read == {"*"}
    for rights in (Rights("archive", NOBODY), Rights("other", READER)):
        with pytest.raises(ConfigError, match=r"archive is trusted already.*revoke archive"):
            trust(tmp_path, rights)
    revoke(tmp_path, "archive")
    with pytest.raises(ConfigError, match="archive is not trusted; trusted are no keys"):
        revoke(tmp_path, "archive")
    assert not TrustList(tmp_path).keys


@pytest.mark.parametrize(
    "text",
    [
        "",
        'public = "short"',
        "read = 5",
        'name = "../up"',
        'read = [5]\npublic = "x"',
        'read = ["a b"]',
        "[[[",
        "x" * 40,
    ],
)
def test_a_file_that_is_wrong_trusts_nobody(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.toml"):
        load_rights(tmp_path / "a.toml")
    assert not TrustList(tmp_path).keys


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", ".hidden", "x" * 65, "a\n"])
def test_names_that_would_be_paths_are_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="no name for a key"):
        trust(tmp_path, Rights(name, READER))
    with pytest.raises(ConfigError, match="no name for a key"):
        revoke(tmp_path, name)
