"""What would have been announced with other rules, beside what was: a fold over the journals of this host."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from trapline.common.config import ConfigError
from trapline.common.config.errors import explain
from trapline.common.journal import PartitionReader
from trapline.common.relay.catalogue import Catalogue
from trapline.schemas.columns import Link, array_to_ids
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, decode, decode_header
from trapline.schemas.transients import Transients
from trapline.transient_finder.comparison import Side, Story, stories_of
from trapline.transient_finder.config import FinderConfig
from trapline.transient_finder.core import FinderState, step
from trapline.transient_finder.plugins import load_rules

_TABLE = "transient_finder"


@dataclass(slots=True)
class Replayed:
    """What came of a replay."""

    stories: list[Story]
    """that either side opened in the stretch, by time of their opening image"""
    counters: Counter[str]
    state: FinderState
    first_us: int | None
    """start of the first image that is still in the journal: before it nothing is known"""
    told_from_us: int | None = None
    """image of the oldest announcement that is kept, when older ones are gone: nothing before is compared"""
    records: int = 0


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
        Episodes that either side opened in images of this time are compared; the fold begins with the first record in
        any case.
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
    was, would, done = Side(), Side(), Replayed([], Counter(), FinderState(), None)
    done.told_from_us = _announced([reader for _, reader in catalogue.of_channel("transients")], was)
    total = sum(reader.next_seq - reader.first_seq for reader in readers)
    cut: set[bytes] = set()
    for frames in watched((f for reader in readers for f in _records(reader)), total):
        done.records += 1
        try:
            message = cast("Message[Lightcurves]", decode(frames))
            known = _objects(done.state, message)
            judged = step(done.state, message, settings, plugins)
        except ValueError:
            # The finder has a dead letter of it, and went on without it.
            done.counters["records_not_taken"] += 1
            continue
        cut |= _older(done.state, message, known)
        cut.update(child for fork in message.header.forks if fork.parent in cut for child in fork.children)
        done.counters.update(judged.counters)
        image = message.header.image
        if done.first_us is None and image is not None:
            done.first_us = image.t_start_us
        for event in judged.messages:
            would.tell(event.header)
    since_us = max(since_us, done.told_from_us or since_us)
    done.stories = [story for story in stories_of(was, would) if story.opens_within(since_us, until_us)]
    for story in done.stories:
        story.cut = story.first.object_id in cut
    return done


def _announced(readers: Iterable[PartitionReader], side: Side) -> int | None:
    """Tell a side what the journals hold; return from when on that is all, if not from the beginning."""
    known_from: list[int] = []
    for reader in readers:
        headers = [header for _, frame in reader.first_frames(0) for header in (decode_header(frame),)]
        events = [header for header in headers if isinstance(header, Transients)]
        known_from += [events[0].t_us] if events and reader.first_seq > 0 else []
        for event in events:
            side.tell(event)
    return max(known_from, default=None)


def _objects(state: FinderState, message: Message[Lightcurves]) -> int:
    """Return how many objects of its associator are known."""
    sky = state.skies.get((message.header.dataset, message.header.producer))
    return len(sky.objects.table) if sky is not None else 0


def _older(state: FinderState, message: Message[Lightcurves], known: int) -> set[bytes]:
    """Return the objects that a record is the first to name, and that were not born in it: their past is not here."""
    if _objects(state, message) == known:
        return set()
    sky = state.skies[message.header.dataset, message.header.producer]
    born = np.isin(message.arrays["link"], (Link.NEW, Link.FORKED))
    forks = {child for fork in message.header.forks for child in fork.children}
    fresh = set(array_to_ids(sky.objects.table.rows["object_id"][known:]))
    return fresh - set(array_to_ids(message.arrays["object_id"][born])) - forks


def _records(reader: PartitionReader) -> Iterator[list[memoryview]]:
    """Yield the frames of the records of a partition, past what is dropped or damaged."""
    seq = reader.first_seq
    while (seq := reader.readable_from(seq)) < reader.next_seq:
        slab = reader.slab(seq, max_bytes=1 << 24, max_records=100)
        for entry in slab.entries:
            yield [slab.data[start : start + length] for start, length in entry.spans]
        seq += len(slab.rows)
