"""Outputs of a fold that are in no hurry: said a while after those that are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from trapline.common.runtime.order import PartitionKey
from trapline.schemas.header import Header
from trapline.schemas.message import Message


class Held:
    """Holds messages back.

    Parameters
    ----------
    delay_s
        Returns for how long a message waits; 0 for one that does not.
    """

    def __init__(self, delay_s: Callable[[Header], float]) -> None:
        self._delay_s = delay_s
        self._waiting: dict[bytes, tuple[float, Message[Header]]] = {}

    def pass_on(self, messages: Iterable[Message[Header]]) -> list[Message[Header]]:
        """Return what does not wait, and what has waited long enough."""
        now_s, others = time.monotonic(), list[Message[Header]]()
        for message in messages:
            if delay_s := self._delay_s(message.header):
                self._waiting[message.header.id] = now_s + delay_s, message
            else:
                others.append(message)
        return others + self.take(now_s)

    def take(self, now_s: float = math.inf) -> list[Message[Header]]:
        """Return what has waited until a time, by default everything."""
        due = [id_ for id_, (due_s, _) in self._waiting.items() if due_s <= now_s]
        return [self._waiting.pop(id_)[1] for id_ in due]

    def first_inputs(self) -> dict[PartitionKey, int]:
        """Return of each partition the first record of which something is not said yet."""
        first: dict[PartitionKey, int] = {}
        for place in (place for _, message in self._waiting.values() for place in message.header.consumed):
            key = (place.channel, place.partition)
            first[key] = min(first.get(key, place.seq), place.seq)
        return first
