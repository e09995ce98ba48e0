"""The relay without its sockets: what is asked, what is answered, and what survives."""

import msgpack
import numpy as np
import pytest

from common_relay import PEER, Bench, cursor, item


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_records_are_fetched_from_a_seq_on(bench):
    bench.append("images/0", 10, 20, 30)
    bench.later()
    answer = bench.ask(op="fetch", cursors=[cursor(1)])
    assert answer.seqs == [1, 2]
    assert answer.frames() == [[b"head 1", bytes(20)], [b"head 2", bytes(30)]]
    assert answer.values["slabs"][0]["next_seq"] == answer.values["slabs"][0]["end"] == 3


def test_headers_alone_are_fetched_without_the_arrays(bench):
    bench.append("images/0", 100_000, 100_000)
    bench.later()
    answer = bench.ask(op="fetch", cursors=[cursor(0)], headers_only=True, max_bytes=10)
    assert answer.frames() == [[b"head 0"], [b"head 1"]]
    assert sum(map(len, answer.buffers)) == 12


def test_a_fetch_waits_for_the_first_record_and_is_woken_by_a_tick(bench):
    bench.append("images/0", 1)
    bench.later()
    assert bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=1000) is None
    assert bench.later(0.1) is None
    bench.append("images/0", 2)
    assert bench.ask(op="tick", channel="images", partition="0", id=0) is None
    assert bench.later(0.0, poll=False).seqs == [1]


def test_a_fetch_that_waited_in_vain_is_answered_empty_at_its_deadline(bench):
    assert bench.ask(op="fetch", cursors=[cursor(0)], wait_ms=1000) is None
    assert bench.core.next_deadline() == pytest.approx(1.0)
    assert bench.later(0.9) is None
    assert bench.later(0.1).seqs == []
    assert bench.core.n_waiting == 0


def test_a_new_partition_ends_the_wait_of_who_knows_the_old_list(bench):
    version = bench.ask(op="info").values["catalogue"]
    assert bench.ask(op="fetch", cursors=[], wait_ms=5000, catalogue=version) is None
    bench.append("images/1", 1)
    assert bench.later().values["catalogue"] > version


def test_an_answer_keeps_to_its_bound_over_all_partitions(bench):
    for partition in ("images/0", "images/1"):
        bench.append(partition, *[10_000] * 4, segment_bytes=1 << 20)
    bench.later()
    answer = bench.ask(op="fetch", cursors=[cursor(0), cursor(0, partition="1")], max_bytes=25_000)
    assert answer.seqs == [0, 1, 0]


def test_dropped_records_are_an_explicit_gap(bench):
    for _ in range(8):
        bench.append("images/0", 3000, segment_bytes=4096)
    bench.later()
    bench.core.catalogue.get("images", "0").drop_before(5)
    first = bench.core.catalogue.get("images", "0").first_seq
    slab = bench.ask(op="fetch", cursors=[cursor(0)]).values["slabs"][0]
    assert slab["gap"] == [0, first] and first > 0
    assert slab["records"][0][0] == first
    assert bench.core.counters["records_dropped_unread"] == first


def test_a_reader_is_told_where_a_lost_epoch_ended(bench):
    bench.append("images/0", 1, 1, 1)
    epochs = bench.root / "journal/images/0/epochs.json"
    bench.writers.pop("images/0").close()
    epochs.write_bytes(b'{"epochs":[{"epoch":0,"first_seq":0},{"epoch":1,"first_seq":2}],"open":false}')
    bench.append("images/0", 5)
    bench.later()
    slab = bench.ask(op="fetch", cursors=[cursor(4, epoch=0)]).values["slabs"][0]
    assert slab["cut"] == {"epoch": 0, "seq": 2}
    assert [r[0] for r in slab["records"]] == [2], "the old record there is void, and its place another's"


def test_a_reader_that_heard_of_records_before_the_relay_looked_is_not_sent_back(bench):
    bench.append("images/0", 1, 1)
    bench.later()
    bench.append("images/0", 1, 1, 1)
    slab = bench.ask(op="fetch", cursors=[cursor(4)]).values["slabs"][0]
    assert "cut" not in slab and [r[0] for r in slab["records"]] == [4]


def test_a_reader_of_another_journal_begins_at_its_start(bench):
    bench.append("images/0", 1, 1)
    bench.later()
    slab = bench.ask(op="fetch", cursors=[cursor(100)]).values["slabs"][0]
    assert "cut" in slab and [r[0] for r in slab["records"]] == [0, 1]


def test_each_record_is_leased_to_one_worker(bench):
    bench.append("images/0", 1, 1, 1)
    bench.later()
    assert bench.lease("w1", max_records=2).seqs == [0, 1]
    assert bench.lease("w2").seqs == [2]
    assert bench.lease("w3").seqs == []
    assert bench.lease("w1", group="other").seqs == [0]


def test_an_expired_lease_goes_to_another_worker_and_an_extended_one_does_not(bench):
    bench.append("images/0", 1, 1)
    bench.later()
    bench.lease("w1", max_records=2)
    bench.now = 2.0
    assert bench.ask(op="extend", group="g", worker="w1", items=[item(1)]).values["kept"] == 1
    assert bench.lease("w2", wait_ms=5000) is None
    assert bench.later(1.5).seqs == [0]
    bench.later(1.0)
    assert bench.ask(op="extend", group="g", worker="w1", items=[item(0)]).values["kept"] == 0


def test_a_death_counts_only_against_the_record_being_handled(bench):
    bench.append("images/0", 1, 1)
    bench.later()
    bench.lease("w1", max_records=2)
    bench.ask(op="extend", group="g", worker="w1", items=[item(0), item(1)], handling=[item(0)])
    bench.later(3.1)
    answer = bench.lease("w2", max_records=2)
    assert answer.seqs == [0, 1]
    assert [slab["attempts"] for slab in answer.values["slabs"]] == [1, 0]


def test_what_is_given_back_is_given_out_again_and_a_failure_is_counted(bench):
    bench.append("images/0", 1)
    bench.later()
    for expected in (0, 1, 1):
        answer = bench.lease()
        assert (answer.seqs, answer.values["slabs"][0]["attempts"]) == ([0], expected)
        bench.ask(op="nack", group="g", items=[item(0)], failed=expected == 0)


def test_acknowledgements_and_positions_survive_a_restart_and_leases_do_not(bench):
    bench.append("images/0", 1, 1, 1, 1)
    bench.later()
    bench.lease(max_records=4)
    bench.ask(op="ack", group="g", items=[item(0), item(2)])
    bench.ask(op="position", reader="a-0", reads=[{**item(3), "safe": 2}])
    bench.later(poll=False)
    bench.restart()
    assert bench.lease(max_records=9).seqs == [1, 3]
    bench.ask(op="ack", group="g", items=[item(1), item(3)])
    assert bench.lease(max_records=9).seqs == []
    info = bench.ask(op="info").values
    assert info["groups"][0]["floor"] == 4
    (reader,) = info["readers"]
    assert reader.pop("oldest_us") > 0
    assert reader == {"reader": "a-0", "channel": "images", "partition": "0", "seq": 3, "safe": 2}


def test_what_a_full_disk_did_not_take_is_stored_when_it_can_be(bench):
    bench.append("images/0", 1, 1)
    bench.later()
    bench.lease(max_records=2)
    bench.core._memory._con.execute("pragma query_only = on")
    bench.ask(op="ack", group="g", items=[item(0)])
    bench.ask(op="position", reader="a-0", reads=[{**item(1), "safe": 1}])
    bench.later(poll=False)
    assert bench.core.counters["memory_failures"] == 1
    bench.core._memory._con.execute("pragma query_only = off")
    bench.later(poll=False)
    bench.restart()
    assert bench.lease(max_records=9).seqs == [1]
    assert bench.core.readers.floor("images", "0") == 1


def test_a_late_acknowledgement_of_a_record_that_another_worker_has_counts(bench):
    bench.append("images/0", 1)
    bench.later()
    bench.lease("w1")
    bench.later(3.1)
    assert bench.lease("w2").seqs == [0]
    bench.ask(op="ack", group="g", items=[item(0)])
    bench.later(10)
    assert bench.lease("w3").seqs == []


def test_an_acknowledgement_of_what_does_not_exist_is_counted_and_skips_nothing(bench):
    bench.append("images/0", 1)
    bench.later()
    bench.ask(op="ack", group="g", items=[item(0, channel="nothing"), item(5), item(1)])
    assert bench.core.counters["items_unknown"] == 3
    bench.append("images/0", 1)
    bench.later()
    assert bench.lease(max_records=9).seqs == [0, 1]


def test_a_forgotten_group_comes_back_by_a_lease_alone(bench):
    bench.append("images/0", 1)
    bench.later()
    assert bench.lease("w1", peer=b"gone").seqs == [0]
    bench.core.forget_peer(b"gone")
    assert bench.ask(op="forget", name="g").values["forgotten"]
    bench.ask(op="ack", group="g", items=[item(0)])
    assert list(bench.core.groups) == [] and bench.core.counters["items_unknown"] == 1
    assert bench.lease("w2").seqs == [0]
    bench.ask(op="ack", group="g", items=[item(0)])
    assert bench.core.groups.floor("images", "0") == 1


def test_a_vanished_peers_lease_request_does_not_swallow_records(bench):
    assert bench.lease("w1", wait_ms=5000, peer=b"gone") is None
    bench.core.forget_peer(b"gone")
    bench.append("images/0", 1)
    assert bench.later() is None
    assert bench.lease("w2").seqs == [0]


def test_urgent_channels_come_first(bench):
    bench.append("remeasure/0", 1)
    bench.append("images/0", 1)
    bench.later()
    answer = bench.lease(channels=["images", "remeasure"], max_records=2)
    assert [slab["channel"] for slab in answer.values["slabs"]] == ["images", "remeasure"]


def header(record=bytes(16), **more):
    return msgpack.packb({"schema": "trapline.thing/1.0", "id": record, **more})


def test_publishing_the_same_record_twice_appends_it_once_even_after_a_restart(bench):
    for i in (0, 0, 1):
        answer = bench.ask(header(bytes([i] * 16)), b"array", op="append", channel="things", partition="laptop")
        assert answer.values["seq"] == i
    bench.restart()
    answer = bench.ask(header(bytes([1] * 16)), b"array", op="append", channel="things", partition="laptop")
    assert answer.values["seq"] == 1
    assert bench.ask(op="fetch", cursors=[cursor(0, channel="things", partition="laptop")]).seqs == [0, 1]


@pytest.mark.parametrize(
    "body", [[], [b"\xc1"], [header(b"short")], [header("text")]], ids=["none", "junk", "short", "str"]
)
def test_what_has_no_id_is_not_published(bench, body):
    answer = bench.ask(*body, op="append", channel="things", partition="laptop")
    assert not answer.values["ok"]


def test_a_partition_that_a_service_writes_is_not_written_for_others(bench):
    bench.append("images/0", 1)
    answer = bench.ask(header(), op="append", channel="images", partition="0")
    assert "has a writer already" in answer.values["error"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"op": "dance"}, "dance"),
        ({}, "op"),
        ({"op": "fetch"}, "cursors"),
        ({"op": "fetch", "cursors": [], "max_bytes": 0}, "max_bytes"),
        ({"op": "fetch", "cursors": [], "wait_ms": 10**9}, "wait_ms"),
        ({"op": "fetch", "cursors": [cursor(-1)]}, "seq"),
        ({"op": "fetch", "cursors": [cursor(2**64 - 1)]}, "seq"),
        ({"op": "fetch", "cursors": [cursor(channel="../etc")]}, "channel"),
        ({"op": "append", "channel": "a/b", "partition": "0"}, "channel"),
        ({"op": "append", "channel": "..", "partition": "0"}, "channel"),
        ({"op": "lease", "group": "", "worker": "w", "channels": ["images"]}, "group"),
        ({"op": "lease", "group": "g", "worker": "w", "channels": []}, "channels"),
        ({"op": "info", "v": 2}, "v"),
        ({"op": "info", "extra": 1}, "extra"),
        ({"op": "find", "channel": "nothing", "partition": "0", "t_us": 0}, "there are none yet"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(bench, request_, words):
    answer = bench.ask(**request_)
    assert not answer.values["ok"]
    assert words in answer.values["error"]
    assert bench.ask(op="info").values["ok"]


def test_bytes_that_are_no_request_never_raise(bench):
    random = np.random.default_rng(3)
    valid = msgpack.packb({"id": 5, "op": "fetch", "cursors": [cursor(0)], "wait_ms": 0})
    for i in range(3000):
        data = bytearray(valid if i % 2 else random.bytes(random.integers(0, 60)))
        for position in random.integers(0, max(len(data), 1), 2):
            data[position : position + 1] = random.bytes(1)
        list(bench.core.handle(PEER, [bytes(data)], bench.now))
    assert list(bench.core.handle(PEER, [], bench.now))
    assert bench.core.counters["requests_refused"] > 1000
    assert bench.ask(op="info").values["ok"]
