"""Requests that wait: woken by what concerns them, at no cost to the others, and never too many of one client."""

from __future__ import annotations

import pytest

from common_relay import Bench, cursor, item


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_hundreds_that_wait_cost_nothing_while_others_have_news(bench):
    bench.append("images/0", 1)
    bench.append("status/0", 1)
    bench.later()
    for i in range(500):
        peer = b"idle %d" % i
        assert bench.ask(op="fetch", cursors=[cursor(1, channel="status")], wait_ms=60_000, peer=peer) is None
    looked = bench.core.counters["waiters_looked_at"]
    for turn in range(1, 200):
        assert bench.ask(op="fetch", cursors=[cursor(turn)], wait_ms=1000, peer=b"reader") is None
        bench.append("images/0", 1)
        bench.ask(op="tick", channel="images", partition="0", id=0)
        assert bench.later(0.001, poll=False).seqs == [turn]
    assert bench.core.counters["waiters_looked_at"] - looked == 199
    bench.append("status/0", 1)
    assert len(list(bench.core.advance(bench.now, poll=True))) == 500


def test_a_deadline_wakes_its_request_alone(bench):
    bench.append("images/0", 1)
    bench.later()
    for i in range(50):
        bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=10_000, peer=b"%d" % i)
    bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=1000, peer=b"short")
    looked = bench.core.counters["waiters_looked_at"]
    assert bench.core.next_deadline() == pytest.approx(bench.now + 1.0)
    bench.now += 1.0
    assert [peer for peer, _ in bench.core.advance(bench.now)] == [b"short"]
    assert bench.core.counters["waiters_looked_at"] - looked == 1
    assert bench.core.n_waiting == 50


def test_a_client_may_not_let_endless_requests_wait_and_others_still_may(bench):
    bench.append("images/0", 1)
    bench.later()
    for _ in range(100):
        assert bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=60_000, peer=b"greedy") is None
    refused = bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=60_000, peer=b"greedy")
    assert "wait for their answers" in refused.values["error"]
    assert bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=60_000, peer=b"modest") is None
    bench.core.forget_peer(b"greedy")
    assert bench.core.n_waiting == 1


def test_given_back_records_wake_the_group_and_nobody_else(bench):
    bench.append("images/0", 1)
    bench.append("status/0", 1)
    bench.later()
    assert bench.lease("w1").seqs == [0]
    bench.ask(op="fetch", cursors=[cursor(1, channel="status")], wait_ms=60_000, peer=b"idle")
    assert bench.lease("w2", wait_ms=60_000, peer=b"w2") is None
    looked = bench.core.counters["waiters_looked_at"]
    bench.ask(op="nack", group="g", items=[item(0)])
    assert bench.later(poll=False).seqs == [0]
    assert bench.core.counters["waiters_looked_at"] - looked == 1


def test_the_count_of_records_in_an_answer_is_bounded_whatever_is_asked_for(bench):
    bench.append("images/0", *[0] * 12_000, segment_bytes=1 << 24)
    bench.later()
    answer = bench.ask(op="fetch", cursors=[cursor(0)], max_records=10**12, max_bytes=10**12)
    assert len(answer.seqs) == 10_000


def test_a_lease_of_many_large_records_is_bounded_in_bytes(bench):
    for _ in range(5):
        bench.append("images/0", 20 << 20, segment_bytes=1 << 16)
    bench.later()
    assert len(bench.lease(max_records=1000).seqs) == 4


def test_a_named_reader_may_ask_where_it_was(bench):
    bench.append("images/0", *range(5))
    bench.later()
    assert bench.ask(op="positions", reader="laptop").values["positions"] == []
    bench.ask(op="position", reader="laptop", reads=[{**item(3), "safe": 2}])
    bench.ask(op="position", reader="other", reads=[{**item(5), "safe": 5}])
    bench.restart()
    expected = [{"channel": "images", "partition": "0", "seq": 3, "safe": 2}]
    assert bench.ask(op="positions", reader="laptop").values["positions"] == expected


def test_a_peer_that_is_found_gone_at_its_first_answer_gets_no_second_one(bench):
    bench.append("images/0", 1)
    bench.later()
    for _ in range(3):
        bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=60_000, peer=b"gone")
    bench.ask(op="fetch", cursors=[cursor(1)], wait_ms=60_000, peer=b"here")
    bench.append("images/0", 1)
    answered = []
    for peer, _ in bench.core.advance(bench.now, poll=True):
        answered.append(peer)
        if peer == b"gone":
            bench.core.forget_peer(peer)
    assert answered == [b"gone", b"here"]
    assert bench.core.n_waiting == 0
