"""Fold order: images as their journal has them, each with its sources, however the replicas finished.

Within a partition of `images` the order is that of seq. Between partitions the smallest head by (observation start,
partition) is next, and a partition without a head is waited for unless it has ended or is silent for `idle_after_s`.
An image whose sources are missing is waited for, but not longer than `max_hold_s` after sources of later ones came; it
is folded when they come. These two are the only clocks, and what they decide is in the output: replay needs none.
Answers to requests are taken as they come, one after each image that is ready: nothing but the values of forced points
depends on them, and images are what others wait for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import cast

from trapline.associator.replies import Replies, Spot, spot_of
from trapline.common.channel import Record
from trapline.common.runtime.order import Consumed, PartitionKey, Step
from trapline.schemas.header import Place
from trapline.schemas.images import Images
from trapline.schemas.sources import Sources
from trapline.schemas.status import DeadLetter


class _Head:
    """An image, a command or an end of stream that waits for its turn."""

    __slots__ = ("header", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.header = cast("Images", record.header)

    @property
    def needs_sources(self) -> bool:
        return self.header.image is not None

    @property
    def t_start_us(self) -> int:
        image = self.header.image
        return image.t_start_us or 0 if image else 0


class ImageOrder:
    """An `Order` of images with their sources.

    Parameters
    ----------
    max_hold_s
        How long an image is waited for after sources of later ones came; None for ever.
    idle_after_s
        After what silence a partition of `images` without a head is not waited for; None never.
    extractors
        Services whose dead letters end the wait for an image, or for the answer to a request.
    """

    def __init__(
        self,
        *,
        max_hold_s: float | None,
        idle_after_s: float | None,
        extractors: Iterable[str] = ("source_extractor",),
    ) -> None:
        self._max_hold_s, self._idle_after_s = max_hold_s, idle_after_s
        self._extractors = frozenset(extractors)
        self._heads: dict[str, deque[_Head]] = {}
        self._ended: set[str] = set()
        self._heard_at: dict[str, float] = {}
        self._sources: dict[Spot, Record] = {}
        self._passed_over: dict[Spot, _Head] = {}
        self._dead: set[Spot] = set()
        self._dead_unconfirmed: set[Spot] = set()
        self._dead_seen_once: set[Spot] = set()
        self._replies = Replies()
        self._reply_is_due = False
        self._held_since: float | None = None
        self._consumed: dict[PartitionKey, Consumed] = {}
        self._skipped: set[Spot] = set()
        self._script: deque[tuple[Place, ...]] = deque()
        self._now = 0.0

    def offer(self, record: Record) -> None:
        """Take notice of a record of `images` (its header), `sources` or `dead_letters`."""
        place = record.place
        done = self._consumed.setdefault((place.channel, place.partition), Consumed(place.seq))
        if place.seq in done:
            return
        match place.channel:
            case "images":
                self._heads.setdefault(place.partition, deque()).append(_Head(record))
                self._ended.discard(place.partition)
                self._heard_at[place.partition] = self._now
            case "sources":
                self._offer_sources(record)
            case _:
                self._offer_dead_letter(record)

    def take(self, now: float) -> Step | None:
        """Return an image with its sources, or a command; None when what is next is not here yet."""
        self._now = now
        if self._script:
            return self._scripted()
        step = self._any_reply() if self._reply_is_due else None
        step = step or self._image(now) or self._any_reply()
        self._reply_is_due = step is not None and step.places[0].channel == "images"
        return step

    def _image(self, now: float) -> Step | None:
        """Return the image or command whose turn it is; None when it is not here yet."""
        if late := self._late():
            return late
        while (head := self._next_head(now)) is not None:
            if head.header.end_of_stream:
                self._end(head)
                continue
            step = self._ready(head)
            if step is not None:
                self._held_since = None
                return step
            if not self._hold_is_over(now):
                return None
            self._passed_over[spot_of(head.record.place)] = self._heads[head.record.place.partition].popleft()
            self._held_since = None
        return None

    @property
    def replaying(self) -> bool:
        """Whether what was decided before a restart is not all repeated yet."""
        return bool(self._script)

    def follow(self, decided: Iterable[Sequence[Place]]) -> None:
        """Repeat what was decided before the restart and is not in the state, then go on."""
        left = (tuple(places) for places in decided)
        self._script.extend(places for places in left if not all(map(self._is_consumed, places)))

    def skip(self, places: Iterable[Place]) -> None:
        """Mark sources that the fold cannot take: their image is folded without them."""
        self._skipped |= {spot_of(place) for place in places}

    def seen(self, keys: Iterable[PartitionKey], *, caught_up: bool) -> None:
        """Take notice of which partitions were read, and whether all of them to their ends."""
        channels = set()
        for channel, partition in keys:
            channels.add(channel)
            if channel == "images" and partition not in self._heads:
                self._heads[partition] = deque()
                self._heard_at[partition] = self._now
        if caught_up and "sources" in channels:
            # Sources that were appended before the dead letter are here now: without them, there will be none. It takes
            # a second time, since relays of several hosts are not read at one moment: what is caught up now may have
            # been read, at another host, before the dead letter was.
            self._dead |= self._dead_seen_once
            self._dead_seen_once, self._dead_unconfirmed = self._dead_unconfirmed, set()
            self._replies.confirm()

    def progress(self) -> dict[PartitionKey, Consumed]:
        """Return what was consumed of each partition."""
        return self._consumed

    def buffered(self) -> int:
        """Return how many images and sources wait."""
        heads = sum(map(len, self._heads.values()))
        return heads + len(self._sources) + len(self._passed_over) + len(self._replies)

    def restore(self, progress: dict[PartitionKey, Consumed]) -> None:
        """Take up what was consumed before a restart."""
        self._consumed = progress

    def _offer_sources(self, record: Record) -> None:
        header = cast("Sources", record.header)
        image = header.image
        if header.request is not None:
            self._replies.add(record)
            return
        if image.place is None:
            raise ValueError(f"{record.place} names no place of its image")
        spot = spot_of(image.place)
        done = self._consumed.get(spot[:2])
        # The first result for an image stands: a redelivered lease gives the same again.
        if spot in self._sources or (done is not None and spot[2] in done):
            self._consume(record.place)
        else:
            self._sources[spot] = record

    def _offer_dead_letter(self, record: Record) -> None:
        header = cast("DeadLetter", record.header)
        ours = header.service in self._extractors
        if ours and header.place.channel == "remeasure":
            self._replies.add_dead(record)
            return
        self._consume(record.place)
        if ours and header.place.channel == "images":
            self._dead_unconfirmed.add(spot_of(header.place))

    def _next_head(self, now: float) -> _Head | None:
        """Return the image whose turn it is; None while a partition that may have an earlier one is silent."""
        for partition, heads in self._heads.items():
            if not heads and not self._is_idle(partition, now):
                return None
        heads_now = [heads[0] for heads in self._heads.values() if heads]
        return min(heads_now, key=lambda h: (h.t_start_us, h.record.place.partition), default=None)

    def _is_idle(self, partition: str, now: float) -> bool:
        if partition in self._ended:
            return True
        limit = self._idle_after_s
        return limit is not None and now - self._heard_at.get(partition, now) > limit

    def _ready(self, head: _Head) -> Step | None:
        """Return the step of an image whose sources are here, or never will be."""
        spot = spot_of(head.record.place)
        if not head.needs_sources:
            return self._step(head)
        if (sources := self._sources.get(spot)) is not None:
            return self._step(head, sources)
        return self._step(head) if spot in self._dead else None

    def _step(self, head: _Head, sources: Record | None = None) -> Step:
        late = self._was_overtaken(head.record.place)
        self._pop(head)
        if sources is None:
            return Step((head.record,), skipped=spot_of(head.record.place) in self._skipped, late=late)
        self._consume(sources.place)
        del self._sources[spot_of(head.record.place)]
        return Step((head.record, sources), skipped=spot_of(sources.place) in self._skipped, late=late)

    def _was_overtaken(self, place: Place) -> bool:
        done = self._consumed.get((place.channel, place.partition))
        return done is not None and any(seq > place.seq for seq in done.above)

    def _pop(self, head: _Head) -> None:
        place = head.record.place
        heads = self._heads[place.partition]
        if heads and heads[0] is head:
            heads.popleft()
        self._passed_over.pop(spot_of(place), None)
        self._dead.discard(spot_of(place))
        self._consume(place)

    def _end(self, head: _Head) -> None:
        self._ended.add(head.record.place.partition)
        self._pop(head)

    def _is_consumed(self, place: Place) -> bool:
        done = self._consumed.get((place.channel, place.partition))
        return done is not None and place.seq in done

    def _consume(self, place: Place) -> None:
        self._consumed.setdefault((place.channel, place.partition), Consumed(place.seq)).add(place.seq)

    def _hold_is_over(self, now: float) -> bool:
        """Tell whether the head has waited long enough while sources of later images were here."""
        if self._max_hold_s is None or not self._sources:
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = now
        return now - self._held_since > self._max_hold_s

    def _late(self) -> Step | None:
        """Return the step of a passed-over image whose sources have come."""
        for head in self._passed_over.values():
            if (step := self._ready(head)) is not None:
                return step
        return None

    def _any_reply(self) -> Step | None:
        record = self._replies.take()
        return None if record is None else self._reply(record)

    def _reply(self, record: Record) -> Step:
        self._consume(record.place)
        return Step((record,), skipped=spot_of(record.place) in self._skipped)

    def _scripted(self) -> Step | None:
        """Return the step that was taken before the restart, once its inputs are here again."""
        places = {place.channel: place for place in self._script[0]}
        image = places.get("images")
        if image is None:
            reply = self._replies.take(spot_of(self._script[0][0]))
            if reply is not None:
                self._script.popleft()
            return None if reply is None else self._reply(reply)
        head = self._find_head(image)
        wanted = places.get("sources")
        if head is None:
            return None
        spot = spot_of(image)
        if wanted is not None and spot not in self._sources:
            return None
        self._script.popleft()
        return self._step(head, self._sources[spot] if wanted is not None else None)

    def _find_head(self, place: Place) -> _Head | None:
        """Return the image at a place; those before it that were not decided were passed over."""
        heads = self._heads.get(place.partition, deque())
        if heads and any(h.record.place.seq == place.seq for h in heads):
            while heads[0].record.place.seq != place.seq:
                if heads[0].header.end_of_stream:
                    self._end(heads[0])
                else:
                    skipped = heads.popleft()
                    self._passed_over[spot_of(skipped.record.place)] = skipped
            return heads[0]
        return self._passed_over.get(spot_of(place))
