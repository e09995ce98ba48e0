"""All that the finder remembers between records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from trapline.common.table import Rows
from trapline.schemas.message import Message
from trapline.schemas.transients import Suppressed, Transients
from trapline.transient_finder.history import BandHistory, Ring
from trapline.transient_finder.objects import Objects
from trapline.transient_finder.waiting import Waiting

BandKey = tuple[str, str]
"""name of a band, and Stokes parameter"""

_BITS = 63


@dataclass(slots=True)
class Episode:
    """An event that goes on, or one that a veto keeps back."""

    event_id: bytes
    significance: float
    """the largest that was announced"""
    bands: int
    """bits of the bands in which the rule holds"""
    announced: bool
    retracted: bool = False
    confirmed: bool = False
    """whether it was told that the rule holds in a second band"""


@dataclass(slots=True)
class Sky:
    """What is known of the objects of one associator in one dataset."""

    ring: Ring
    objects: Objects = field(default_factory=Objects)
    bands: dict[BandKey, BandHistory] = field(default_factory=dict[BandKey, BandHistory])
    episodes: dict[tuple[int, str], Episode] = field(default_factory=dict[tuple[int, str], Episode])
    """by row of the object, and kind"""
    waiting: Waiting = field(default_factory=Waiting)
    step_us: int | None = None
    """start of the newest time step"""
    step_images: dict[bytes, int] = field(default_factory=dict[bytes, int])
    """its images, with the numbers of their bands"""
    unconfirmed: dict[int, list[tuple[BandKey, Transients]]] = field(
        default_factory=dict[int, list[tuple[BandKey, Transients]]]
    )
    """events of the newest step that another band may confirm, by row of the object"""

    def band(self, key: BandKey) -> BandHistory:
        """Return what is known in a band."""
        if key not in self.bands:
            self.bands[key] = BandHistory(len(self.bands))
        return self.bands[key]

    def set_episode(self, row: int, kind: str, episode: Episode | None) -> None:
        """Open an episode of an object in the place of what is there, or close it."""
        there = self.episodes.pop((row, kind), None) is not None
        if episode is not None:
            self.episodes[row, kind] = episode
        self.objects.table.rows["open"][row] += int(episode is not None) - int(there)

    def recent(self, key: BandKey, row: int, count: int) -> Rows:
        """Return the newest points of an object in a band, oldest first."""
        history = self.bands[key]
        known = row < len(history.row_of) and history.row_of.rows["row"][row]
        newest = history.table.rows["newest"][known - 1] if known else 0
        return self.ring.follow(int(newest), count)


def bit(number: int) -> int:
    """Return the bit of a band; with more bands than bits some share one, and confirm each other no more."""
    return number % _BITS


@dataclass(slots=True)
class FinderState:
    """The state of the fold: `step` changes it, a snapshot holds it."""

    skies: dict[tuple[str, str], Sky] = field(default_factory=dict[tuple[str, str], Sky])
    """by dataset, and associator: those of several share no object, and come in no fixed order"""

    def sky(self, dataset: str, producer: str, history_points: int) -> Sky:
        """Return what is known of the objects of an associator in a dataset."""
        if (dataset, producer) not in self.skies:
            self.skies[dataset, producer] = Sky(Ring(history_points))
        return self.skies[dataset, producer]


class Judged(NamedTuple):
    """What came of one record."""

    messages: list[Message[Transients]]
    suppressed: list[Message[Suppressed]]
    counters: Counter[str]
    """`suppressed_VETO`, `retracted_VETO` and what was given up"""
