"""The monitor of the feed, and the order of images that are held back."""

from __future__ import annotations

import random

import pytest

from trapline.image_ingest.monitor import Allowance, SourceMonitor
from trapline.image_ingest.reorder import Reorder
from trapline.schemas.image import Image, Quality, Reason

SECOND = 1_000_000


def image(second: float, *checks: str) -> Image:
    reasons = [Reason(check) for check in checks]
    return Image(id=bytes(16), t_start_us=round(second * SECOND), quality=Quality(bool(reasons), reasons))


def monitored(*seconds: float, arrive_every_s: float = 1.0) -> tuple[SourceMonitor, int]:
    monitor, now = SourceMonitor("tcp://imager:6666"), 0
    for second in seconds:
        now += round(arrive_every_s * SECOND)
        monitor.note(image(second), now)
    return monitor, now


def test_a_steady_source_has_a_rate_and_a_cadence_and_no_gaps() -> None:
    monitor, now = monitored(*range(100), arrive_every_s=0.25)
    report = monitor.report(now)
    assert report["rate_hz"] == pytest.approx(4.0)
    assert report["cadence_s"] == 1.0
    assert (report["gaps"], report["late"], report["missed"]) == (0, 0, 0)
    assert (report["last_us"], report["newest_start_us"]) == (now, 99 * SECOND)


def test_images_that_are_missing_are_a_gap() -> None:
    monitor, now = monitored(0, 1, 2, 3, 4, 8, 9, 10.6)
    report = monitor.report(now)
    assert (report["gaps"], report["missed"], report["longest_gap_s"]) == (2, 4, 4.0)


def test_two_bands_of_one_time_are_no_gap_and_not_late() -> None:
    report = monitored(0, 0, 1, 1, 2, 2, 3, 3)[0].report(0)
    assert (report["gaps"], report["late"], report["cadence_s"]) == (0, 0, 1.0)


def test_late_images_are_no_gap() -> None:
    report = monitored(0, 1, 2, 3, 5, 4, 6)[0].report(0)
    assert (report["late"], report["gaps"]) == (1, 1)


def test_one_image_from_the_future_does_not_make_all_others_late() -> None:
    report = monitored(*range(10), 1e6, *range(10, 100))[0].report(0)
    assert report["late"] == 32
    assert report["newest_start_us"] == 99 * SECOND


def test_the_rate_falls_while_nothing_comes_and_silence_is_said_once() -> None:
    monitor, now = monitored(*range(20))
    assert not monitor.fell_silent(now + 3 * SECOND)
    assert monitor.fell_silent(now + 11 * SECOND)
    assert not monitor.fell_silent(now + 12 * SECOND)
    assert monitor.report(now + 100 * SECOND)["rate_hz"] < 0.2
    monitor.note(image(50), now + 101 * SECOND)
    assert not monitor.fell_silent(now + 101 * SECOND)
    assert monitor.report(now)["silences"] == 1


def test_a_slow_cadence_is_not_taken_for_silence() -> None:
    monitor, now = monitored(*range(0, 6000, 600), arrive_every_s=600)
    assert not monitor.fell_silent(now + 2000 * SECOND)


def test_rejections_are_counted_by_reason_once_per_image() -> None:
    monitor = SourceMonitor("files")
    monitor.note(image(0, "header", "header", "rms"), 0)
    monitor.note(image(1, "rms"), 1)
    monitor.note(image(2), 2)
    report = monitor.report(3)
    assert (report["rejected"], report["rejected_header"], report["rejected_rms"]) == (2, 1, 2)


def test_a_flood_of_broken_images_has_an_allowance() -> None:
    allowance = Allowance()
    assert sum(allowance.take(0.0) for _ in range(1000)) == 50
    assert sum(allowance.take(1.0 + number / 1000) for number in range(1000)) == pytest.approx(20, abs=1)
    assert sum(allowance.take(100.0 + number) for number in range(100)) == 100


# Holding back


def test_what_comes_within_the_window_goes_on_in_order() -> None:
    held: Reorder[str] = Reorder(window_s=2.0, max_bytes=1000)
    assert held.push("b", 20, 1, 0.0) == []
    assert held.push("c", 30, 1, 0.5) == []
    assert held.push("a", 10, 1, 1.0) == []
    assert held.next_due_s() == 2.0
    assert held.due(2.0) == ["a", "b"]
    assert held.due(2.4) == []
    assert held.due(2.5) == ["c"]
    assert (len(held), held.held_bytes, held.next_due_s()) == (0, 0, None)


def test_what_comes_after_the_window_goes_on_late() -> None:
    held: Reorder[str] = Reorder(window_s=1.0, max_bytes=1000)
    held.push("b", 20, 1, 0.0)
    assert held.due(1.0) == ["b"]
    assert held.push("a", 10, 1, 1.1) == []
    assert held.flush() == ["a"]


def test_equal_times_keep_the_order_in_which_they_came() -> None:
    held: Reorder[int] = Reorder(window_s=1.0, max_bytes=1000)
    for number in range(10):
        held.push(number, 7, 1, 0.0)
    assert held.due(1.0) == list(range(10))


def test_memory_is_bounded() -> None:
    held: Reorder[int] = Reorder(window_s=1e9, max_bytes=10)
    out: list[int] = []
    for number in random.Random(1).sample(range(100), 100):
        out += held.push(number, number, 3, 0.0)
        assert held.held_bytes <= 10
    assert sorted(out + held.flush()) == list(range(100))
    assert held.hurried == 97


def test_nothing_is_lost_whatever_the_times() -> None:
    rng = random.Random(2)
    held: Reorder[int] = Reorder(window_s=1.0, max_bytes=20)
    out: list[int] = []
    now = 0.0
    for number in range(2000):
        now += rng.expovariate(5)
        out += held.push(number, rng.randrange(100), rng.randrange(5), now)
        out += held.due(now)
        assert len(held._arrivals) <= len(held) + 2000
    assert sorted(out + held.flush()) == list(range(2000))
