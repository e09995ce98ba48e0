"""What would have been announced with other rules, beside what was: a fold over the journals of this host."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from trapline.common.config import ConfigError
from trapline.common.config.errors import explain
from trapline.common.journal import PartitionReader
from trapline.common.relay.catalogue import Catalogue
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, decode, decode_header
from trapline.schemas.transients import Transients
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.plugins import load_rules

_TABLE = "transient_finder"


@dataclass(slots=True)
class Story:
    """One event: what was said of it, and what would have been said. None: nothing."""

    first: Transients
    """the record that opened it"""
    was: str | None = None
    would: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the new rules say something else."""
        return self.was != self.would


@dataclass(slots=True)
class Replayed:
    """What came of a replay."""

    stories: list[Story]
    """by time of their opening image"""
    counters: Counter[str]
    state: FinderState
    first_us: int | None
    """start of the first image that is still in the journal: before it nothing is known"""
    records: int = 0


@dataclass(slots=True)
class _Stories:
    since_us: int
    until_us: int
    found: dict[bytes, Story] = field(default_factory=dict[bytes, Story])

    def tell(self, header: Transients, which: str) -> None:
        """Take notice of a record about an event that opened in the stretch that is looked at."""
        if header.alert_type == "initial" and self.since_us <= header.t_us < self.until_us:
            self.found.setdefault(header.event_id, Story(header))
        if (story := self.found.get(header.event_id)) is not None:
            setattr(story, which, "retracted" if header.alert_type == "retraction" else "announced")


def rules_from(settings: FinderConfig, path: Path | None) -> FinderConfig:
    """Return settings with those of a TOML file in their place: keys of the table, or the table itself.

    Raises
    ------
    ConfigError
        When the file is no TOML, or a key or value in it is wrong: with a line for each.
    """
    if path is None:
        return settings
    try:
        given: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return FinderConfig.model_validate(settings.model_dump() | given.get(_TABLE, given))
    except ValidationError as error:
        raise ConfigError(explain(error, FinderConfig, str(path))) from None


def replay(
    journals: Path,
    settings: FinderConfig,
    *,
    since_us: int = 0,
    until_us: int = 1 << 62,
    watched: Callable[[Iterable[Any], int], Iterable[Any]] = lambda steps, _: steps,
) -> Replayed:
    """Fold all of `lightcurves` that the journals hold, and compare events with what `transients` says.

    Parameters
    ----------
    journals
        Directory of the journals.
    settings
        Rules to fold with.
    since_us, until_us
        Events that opened in images of this time are compared; the fold begins with the first record in any case.
    watched
        Called with the steps and their number: shows progress.

    Raises
    ------
    ConfigError
        When there are no journals, or a plug-in of the settings cannot be used.
    """
    if not (journals / "lightcurves").is_dir():
        raise ConfigError(f"there are no lightcurves under {journals}: is this the directory of a mesh?")
    catalogue, plugins = Catalogue(journals), load_rules(settings.plugins, settings.plugin_thresholds)
    readers = [reader for _, reader in catalogue.of_channel("lightcurves")]
    stories, done = _Stories(since_us, until_us), Replayed([], Counter(), FinderState(), None)
    for header in _headers(reader for _, reader in catalogue.of_channel("transients")):
        stories.tell(header, "was")
    total = sum(reader.next_seq - reader.first_seq for reader in readers)
    for frames in watched((f for reader in readers for f in _records(reader)), total):
        done.records += 1
        try:
            message = cast("Message[Lightcurves]", decode(frames))
            judged = step(done.state, message, settings, plugins)
        except ValueError:
            # The finder has a dead letter of it, and went on without it.
            done.counters["records_not_taken"] += 1
            continue
        done.counters.update(judged.counters)
        image = message.header.image
        if done.first_us is None and image is not None:
            done.first_us = image.t_start_us
        for event in judged.messages:
            stories.tell(event.header, "would")
    done.stories = sorted(stories.found.values(), key=lambda story: (story.first.t_us, story.first.event_id))
    return done


def _headers(readers: Iterable[PartitionReader]) -> Iterator[Transients]:
    for reader in readers:
        for _, frame in reader.first_frames(0):
            header = decode_header(frame)
            if isinstance(header, Transients):
                yield header


def _records(reader: PartitionReader) -> Iterator[list[memoryview]]:
    """Yield the frames of the records of a partition, past what is dropped or damaged."""
    seq = reader.first_seq
    while (seq := reader.readable_from(seq)) < reader.next_seq:
        slab = reader.slab(seq, max_bytes=1 << 24, max_records=100)
        for entry in slab.entries:
            yield [slab.data[start : start + length] for start, length in entry.spans]
        seq += len(slab.entries)
