"""Events beside events: what was announced, and what other rules would have announced of the same episodes.

An event is known by its object, its kind and the image that opened it. Another rule may open the same episode an image
earlier or later, and so does a fold that begins in its middle: those two are one story, if the times overlap in which
they went on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from trapline.schemas.transients import Transients

_FOR_EVER = 1 << 62
_MOMENTS = frozenset({"new_source", "returned"})


@dataclass(slots=True)
class Told:
    """What one side says of an event: the first record that is known, from when to when it went on, and its outcome."""

    first: Transients
    start_us: int
    """start of the image that opened it; 0 when the record that did is gone"""
    end_us: int = _FOR_EVER
    outcome: str = "announced"


@dataclass(slots=True)
class Story:
    """One episode: what was said of it, and what would have been said. None: nothing."""

    was: Told | None = None
    would: Told | None = None
    cut: bool = False
    """whether the object is older than what the fold could read: it may not know enough of it"""

    @property
    def first(self) -> Transients:
        """Return the first record of it: one that was published, if there is one."""
        told = self.was or self.would
        assert told is not None
        return told.first

    @property
    def differs(self) -> bool:
        """Whether the new rules say something else, or say it at another image."""
        return self.outcomes[0] != self.outcomes[1] or bool(self.later_us)

    @property
    def outcomes(self) -> tuple[str | None, str | None]:
        """Return what became of it on both sides."""
        was, would = self.was, self.would
        return was.outcome if was else None, would.outcome if would else None

    @property
    def later_us(self) -> int:
        """Return by how much later it would have opened; 0 when a side says nothing, or its beginning is gone."""
        both = self.was and self.would and self.was.start_us and self.would.start_us
        return self.would.start_us - self.was.start_us if self.was and self.would and both else 0

    @property
    def start_us(self) -> int:
        """Return when the first side that is known to opened it."""
        starts = [told.start_us for told in (self.was, self.would) if told is not None and told.start_us]
        return min(starts, default=0)

    def opens_within(self, since_us: int, until_us: int) -> bool:
        """Tell whether either side opens it in a stretch of time."""
        return any(told is not None and since_us <= told.start_us < until_us for told in (self.was, self.would))


@dataclass(slots=True)
class Side:
    """The events of one side, from their records in any number of journals."""

    found: dict[bytes, Told] = field(default_factory=dict[bytes, Told])
    _gone: dict[bytes, Told] = field(default_factory=dict[bytes, Told])
    """events of what disappeared and is not back, by object"""

    def tell(self, header: Transients) -> None:
        """Take notice of a record."""
        told = self.found.get(header.event_id)
        if told is None:
            opens = header.alert_type == "initial"
            told = self.found[header.event_id] = Told(header, header.t_us if opens else 0)
            self._begin(header, told)
        over = header.ended or header.alert_type == "retraction" or header.kind in _MOMENTS
        told.end_us = header.t_us if over else _FOR_EVER
        told.outcome = "retracted" if header.alert_type == "retraction" else "announced"

    def _begin(self, header: Transients, told: Told) -> None:
        if header.kind == "disappeared":
            self._gone[header.object_id] = told
        elif header.kind == "returned" and (gone := self._gone.pop(header.object_id, None)) is not None:
            gone.end_us = header.t_us


def stories_of(was: Side, would: Side) -> list[Story]:
    """Return the stories of both sides, by time of their opening image."""
    by_name: dict[tuple[bytes, str], tuple[list[Told], list[Told]]] = defaultdict(lambda: ([], []))
    for which, side in enumerate((was, would)):
        for told in side.found.values():
            by_name[told.first.object_id, told.first.kind][which].append(told)
    stories = [story for sides in by_name.values() for story in _paired(*sides)]
    return sorted(stories, key=lambda story: (story.start_us, story.first.event_id))


def _paired(was: list[Told], would: list[Told]) -> Iterable[Story]:
    """Yield stories of one object and kind: the same event first, then those that overlap, each once."""
    same = {told.first.event_id: told for told in would}
    left, right = list[Told](), sorted(would, key=lambda told: told.start_us)
    for told in sorted(was, key=lambda told: told.start_us):
        if (other := same.get(told.first.event_id)) is None:
            left.append(told)
            continue
        right.remove(other)
        yield Story(told, other)
    for told in left:
        other = next((o for o in right if o.start_us <= told.end_us and told.start_us <= o.end_us), None)
        if other is not None:
            right.remove(other)
        yield Story(told, other)
    for other in right:
        yield Story(None, other)
