"""From messages to rows, and from the rows of many messages to what one transaction writes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trapline.database_dumper.binary_copy import Field, encode_rows
from trapline.database_dumper.event_rows import event_row
from trapline.database_dumper.image_rows import image_row, limit_row
from trapline.database_dumper.lightcurve_rows import Block, block_of, object_fields, point_fields, state_fields
from trapline.database_dumper.triage_rows import triage_row
from trapline.database_dumper.values import as_text, as_uuid, dataset_id
from trapline.schemas.header import Header, Place
from trapline.schemas.images import Images
from trapline.schemas.lightcurves import Fork, Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.transients import Transients
from trapline.schemas.triage import Triage

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class RecordRows:
    """What one record adds to the store; nothing for most commands."""

    place: Place
    dataset: str
    image: Row | None = None
    block: Block | None = None
    event: Row | None = None
    forks: Sequence[Fork] = ()
    retired: Sequence[bytes] = ()
    verdict: Row | None = None
    limit: Row | None = None


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows for a binary COPY: the columns' names, and pieces without header and trailer."""

    columns: tuple[str, ...] = ()
    pieces: list[bytes] = field(default_factory=list[bytes])

    @classmethod
    def of(cls, tables: Iterable[dict[str, Field]]) -> Copied:
        """Return the rows of tables that have the same columns."""
        columns: tuple[str, ...] = ()
        pieces = []
        for fields in tables:
            columns = tuple(fields)
            pieces.append(encode_rows(fields))
        return cls(columns, pieces)


@dataclass(frozen=True, slots=True)
class Tables:
    """What one transaction writes."""

    datasets: list[Row]
    images: list[Row]
    limits: list[Row]
    objects: Copied
    states: Copied
    points: Copied
    parents: list[Row]
    retired: list[Row]
    events: list[Row]
    verdicts: list[Row]


def rows_of(place: Place, message: Message[Header]) -> RecordRows:
    """Return what a record adds to the store. Of `images` the header is enough.

    Raises
    ------
    SchemaError
        When the message holds what no column can: the text names it.
    """
    header = message.header
    if isinstance(header, Images):
        return RecordRows(place, header.dataset, image=image_row(header))
    if isinstance(header, Lightcurves):
        block = block_of(header, message.arrays)
        facts: dict[str, Any] = {"forks": header.forks, "retired": header.retired, "limit": limit_row(header)}
        return RecordRows(place, header.dataset, block=block, **facts)
    if isinstance(header, Transients):
        return RecordRows(place, header.dataset, event=event_row(header))
    if isinstance(header, Triage):
        return RecordRows(place, header.dataset, verdict=triage_row(header))
    return RecordRows(place, header.dataset)


def tables_of(records: Sequence[RecordRows], late: Collection[int] = ()) -> Tables:
    """Return the rows of records in their order: of an object or a state that occurs often, the last one.

    Points of images that started at one of the times `late` (as the server counts) are left out.
    """
    blocks = [r.block for r in records if r.block is not None]
    with_points = [b for b in blocks if len(b.points["kind"])]
    named = {r.dataset for r in records if r.image or r.block or r.event or r.verdict}
    forks = [fork for r in records for fork in r.forks]
    return Tables(
        datasets=[(as_uuid(dataset_id(name)), as_text(name)) for name in sorted(named)],
        images=[r.image for r in records if r.image],
        limits=[r.limit for r in records if r.limit],
        objects=Copied.of([object_fields(with_points)] if with_points else []),
        states=Copied.of(state_fields(blocks)),
        points=Copied.of(point_fields(b) for b in with_points if b.t not in late),
        parents=[(as_uuid(child), as_uuid(fork.parent)) for fork in forks for child in fork.children],
        retired=[(as_uuid(i),) for r in records for i in r.retired],
        events=[r.event for r in records if r.event],
        verdicts=[r.verdict for r in records if r.verdict],
    )
