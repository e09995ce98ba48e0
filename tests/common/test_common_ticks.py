"""Ticks: the first at once, the others together, none forgotten."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from trapline.common.channel.ticks import BUSY_INTERVAL_S, INTERVAL_S, Ticker


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands until a test moves it: no machine is slow enough to matter."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0

    def time(self) -> float:
        return self.now_s

    def move(self, seconds: float) -> None:
        """Move the clock, and let what is due then run."""
        self.now_s += seconds
        self.call_soon(self.stop)
        self.run_forever()


class Told:
    """What a ticker told, and when, on a clock in the test's hand."""

    def __init__(self, loop: HandLoop) -> None:
        self.loop = loop
        self.at_s: list[float] = []
        self.keys: list[tuple[str, str]] = []
        self._ticker = Ticker(self._note)

    def _note(self, tick) -> None:
        self.at_s.append(self.loop.now_s)
        self.keys.append((tick.channel, tick.partition))

    def tell(self, channel: str, partition: str) -> None:
        self._in_loop(lambda: self._ticker.tell(channel, partition))

    def flush(self) -> None:
        self._in_loop(self._ticker.flush)

    def _in_loop(self, action: Callable[[], None]) -> None:
        self.loop.call_soon(action)
        self.loop.move(0.0)


@pytest.fixture
def told() -> Iterator[Told]:
    loop = HandLoop()
    yield Told(loop)
    loop.close()


def test_the_first_is_told_at_once_and_the_rest_together(told):
    for _ in range(1000):
        told.tell("images", "0")
    assert told.keys == [("images", "0")]
    told.loop.move(0.9 * INTERVAL_S)
    assert len(told.keys) == 1, "before the interval is over nobody is woken again"
    told.loop.move(0.2 * INTERVAL_S)
    assert len(told.keys) == 2, "once for all that followed"
    told.flush()
    told.loop.move(10 * INTERVAL_S)
    assert len(told.keys) == 2, "nothing was left to tell"


def test_a_busy_writer_tells_once_an_interval(told):
    for _ in range(1000):
        told.tell("images", "0")
        told.loop.move(INTERVAL_S / 10)
    gaps = [later - earlier for earlier, later in zip(told.at_s, told.at_s[1:], strict=False)]
    assert 90 <= len(told.keys) <= 101
    # The loop rounds to the resolution of its clock.
    assert min(gaps) > 0.99 * INTERVAL_S


def test_of_a_flood_it_is_told_less_often_until_that_is_over(told):
    for _ in range(500):
        told.tell("images", "0")
        told.loop.move(INTERVAL_S / 50)
    gaps = [later - earlier for earlier, later in zip(told.at_s, told.at_s[1:], strict=False)]
    assert gaps[0] < 1.1 * INTERVAL_S, "one does not know before"
    assert min(gaps[1:]) > 0.99 * BUSY_INTERVAL_S
    for _ in range(2):
        told.loop.move(1.1 * BUSY_INTERVAL_S)
    told.tell("images", "0")
    told.tell("images", "0")
    before = len(told.at_s)
    told.loop.move(1.1 * INTERVAL_S)
    assert len(told.at_s) == before + 1, "few came, so that the next ones wait a millisecond only"


def test_partitions_do_not_wait_for_one_another(told):
    expected = [(channel, partition) for partition in ("0", "1") for channel in ("images", "sources")]
    for key in expected:
        told.tell(*key)
    assert told.keys == expected


def test_after_a_pause_it_is_told_at_once_again(told):
    told.tell("images", "0")
    told.loop.move(1.1 * INTERVAL_S)
    told.tell("images", "0")
    assert len(told.keys) == 2


def test_what_waits_is_told_when_a_writer_ends(told):
    told.tell("images", "0")
    told.tell("images", "0")
    told.flush()
    assert len(told.keys) == 2
    told.loop.move(3 * INTERVAL_S)
    assert len(told.keys) == 2, "a timer that was flushed does not fire"
