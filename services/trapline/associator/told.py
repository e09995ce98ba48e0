"""What an associator's own journals say that it said before some record: what the store does not know.

From them come what was consumed, the newest images, open requests, misses as they were, and watch positions to the last
bit. Journals may begin late: what they lack is taken from the store, or is unknown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from trapline.common.journal import PartitionReader
from trapline.common.runtime.order import Consumed, PartitionKey
from trapline.common.table import Rows
from trapline.schemas.columns import SchemaError
from trapline.schemas.header import Header, Place
from trapline.schemas.image import Image
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message, decode, decode_header
from trapline.schemas.sources import Sources
from trapline.schemas.watchlist import POSITIONS, Remeasure, Watchlist

LOOK_BACK = 5000
"""records of `lightcurves` whose columns are read: misses change with each image, and the newest ones count"""

MOST_IMAGES = 20_000
"""newest images that are known well enough to be measured once more"""

Steps = frozenset[Place]


@dataclass(frozen=True, slots=True)
class ToldImage:
    """An image that was measured and folded."""

    dataset: str
    image: Image
    image_place: Place
    sources_place: Place | None


@dataclass(slots=True)
class Told:
    """What was said before record `until` of `lightcurves`.

    Attributes
    ----------
    consumed
        By partition: what its records name.
    images
        The newest of those that were measured, by id, in fold order as far as that is known; some may not be folded.
    folded
        Ids of all images, also those without sources, in fold order.
    newest
        The last `LOOK_BACK` records, in order.
    positions
        Columns of `watchlist`, rows in the order in which they were told; `full_list` whether all who are on it are
        among them.
    requests
        Those that no record answers. The first `unsure` of them were made before the first record, at
        `known_since_us`: the store knows whether they were answered.
    later
        What the records from `until` on consumed.
    since
        By channel: the first record that belongs to one from `until` on.
    """

    until: int
    consumed: dict[PartitionKey, Consumed] = field(default_factory=dict[PartitionKey, Consumed])
    images: dict[bytes, ToldImage] = field(default_factory=dict[bytes, ToldImage])
    folded: dict[bytes, None] = field(default_factory=dict[bytes, None])
    newest: deque[Message[Lightcurves]] = field(default_factory=lambda: deque[Message[Lightcurves]](maxlen=LOOK_BACK))
    positions: dict[str, Rows] = field(default_factory=lambda: dict[str, Rows](POSITIONS.empty()))
    full_list: bool = False
    requests: list[Message[Remeasure]] = field(default_factory=list[Message[Remeasure]])
    unsure: int = 0
    known_since_us: int = 0
    later: set[Steps] = field(default_factory=set[Steps])
    since: dict[str, int] = field(default_factory=dict[str, int])


def read_told(journals: Path, partition: str, until: int) -> Told:
    """Return what the journals of an associator say; nothing of those that are not there.

    Parameters
    ----------
    journals
        Directory of the journals of this host.
    partition
        Of the associator.
    until
        Record of `lightcurves` that comes next.
    """
    told = Told(until, since={"lightcurves": until})
    answered: set[bytes] = set()
    _read_sources(told, sorted((journals / "sources").glob("*")))
    lightcurves = _reader(journals / "lightcurves" / partition)
    for seq, header in _headers(lightcurves):
        if isinstance(header, Lightcurves):
            _note(told, header, seq, answered)
    for _, message in _messages(lightcurves, max(until - LOOK_BACK, 0), until):
        told.newest.append(message)
    _read_watchlist(told, _reader(journals / "watchlist" / partition))
    told.known_since_us = _beginning_us(lightcurves)
    _read_requests(told, _reader(journals / "remeasure" / partition), answered)
    return told


def _note(told: Told, header: Lightcurves, seq: int, answered: set[bytes]) -> None:
    if seq >= told.until:
        told.later.add(frozenset(header.consumed))
        return
    for place in header.consumed:
        key = place.channel, place.partition
        # What lies before the oldest known input was consumed; what was consumed without a word comes again.
        told.consumed.setdefault(key, Consumed(place.seq)).add(place.seq)
    if header.request is not None:
        answered.add(header.request)
    elif header.image is not None:
        told.folded[header.image.id] = None
        places = {place.channel: place for place in header.consumed}
        if header.parents and not header.image.quality.rejected and "images" in places:
            found = ToldImage(header.dataset, header.image, places["images"], places.get("sources"))
            # Those of the records come last, in fold order.
            told.images.pop(header.image.id, None)
            told.images[header.image.id] = found
            if len(told.images) > MOST_IMAGES:
                del told.images[next(iter(told.images))]


def _read_sources(told: Told, directories: Iterable[Path]) -> None:
    """Note the images of the newest `sources` of this host: they know places that `lightcurves` no longer tells."""
    found = []
    for directory in directories:
        reader = PartitionReader(directory)
        for entry, frame in reader.first_frames(max(reader.next_seq - MOST_IMAGES, 0)):
            with suppress(SchemaError):
                header = decode_header(frame)
                if isinstance(header, Sources) and header.request is None and header.image.place is not None:
                    place = Place("sources", directory.name, entry.epoch, entry.seq)
                    found.append(ToldImage(header.dataset, header.image, header.image.place, place))
    for image in sorted(found, key=lambda f: f.image.t_start_us or 0)[-MOST_IMAGES:]:
        told.images.setdefault(image.image.id, image)


def _read_watchlist(told: Told, reader: PartitionReader | None) -> None:
    parts = [told.positions]
    told.since["watchlist"] = 0 if reader is None else reader.next_seq
    for seq, message in _messages(reader, 0, None):
        header = cast("Watchlist", message.header)
        if frozenset(header.consumed) in told.later or header.version >= told.until:
            told.since["watchlist"] = seq
            break
        told.full_list |= header.full
        parts.append(POSITIONS.select(message.arrays))
        if len(parts) > LOOK_BACK:
            parts = [newest_rows(parts)]
    told.positions = newest_rows(parts)


def newest_rows(parts: list[dict[str, Rows]]) -> dict[str, Rows]:
    """Return, of columns with an `object_id`, the last row of each object."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ids = np.ascontiguousarray(joined["object_id"]).view("V16")[:, 0]
    _, last = np.unique(ids[::-1], return_index=True)
    rows = np.sort(len(ids) - 1 - last)
    return {name: column[rows] for name, column in joined.items()}


def _read_requests(told: Told, reader: PartitionReader | None, answered: set[bytes]) -> None:
    """Note what is asked for still, as far as the records of `lightcurves` know."""
    told.since["remeasure"] = 0 if reader is None else reader.next_seq
    for seq, message in _messages(reader, 0, None):
        header = cast("Remeasure", message.header)
        if frozenset(header.consumed) in told.later:
            told.since["remeasure"] = seq
            break
        if header.id not in answered:
            told.requests.append(cast("Message[Remeasure]", message))
            told.unsure += reader is not None and reader.time_of(seq) <= told.known_since_us


def _reader(directory: Path) -> PartitionReader | None:
    return PartitionReader(directory) if directory.is_dir() else None


def _beginning_us(reader: PartitionReader | None) -> int:
    if reader is None or reader.first_seq == reader.next_seq:
        return 0
    # What is asked in a step is appended behind what is said of it.
    return reader.time_of(reader.readable_from(reader.first_seq)) if reader.first_seq else 0


def _headers(reader: PartitionReader | None) -> Iterator[tuple[int, Header]]:
    for entry, frame in reader.first_frames(0) if reader else ():
        yield entry.seq, decode_header(frame)


def _messages(reader: PartitionReader | None, since: int, until: int | None) -> Iterator[tuple[int, Message[Any]]]:
    """Yield the records from `since` up to `until`, past what is dropped or damaged."""
    if reader is None:
        return
    seq, end = max(since, reader.first_seq), reader.next_seq if until is None else min(until, reader.next_seq)
    while seq < end and (seq := reader.readable_from(seq)) < end:
        slab = reader.slab(seq, max_bytes=1 << 26, max_records=min(100, end - seq))
        for entry in slab.entries:
            yield entry.seq, decode([slab.data[o : o + n] for o, n in entry.spans])
        seq += len(slab.rows)
