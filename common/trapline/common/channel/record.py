"""What a reader gets: a record with its place, or an explicit gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from trapline.schemas.header import Header, Place
from trapline.schemas.message import Buffer, Message, decode, decode_header

_ONE_FRAME = 5  # numbers of the description of a record with one: most records are small, and readers busy with them


class Record(msgspec.Struct, frozen=True):
    """One record: its place, when it was appended (us since 1970-01-01 UTC), and its frames as they were written.

    `attempts` counts the handlers that failed on it before, when it was leased.
    """

    place: Place
    t_us: int
    frames: Sequence[Buffer]
    attempts: int = 0

    @property
    def message(self) -> Message[Header]:
        """Decode header and arrays; `SchemaError` when it is no known message."""
        return decode(self.frames)

    @property
    def header(self) -> Header:
        """Decode the header alone; `SchemaError` when it is no known message."""
        return decode_header(self.frames[0] if self.frames else b"")


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that this reader will never see.

    ``retention`` dropped them before they were read, they are ``damaged`` on disk, or the writer ``lost`` them in a
    power cut after they were read: then what was read of them is void.
    """

    channel: str
    partition: str
    first_seq: int
    end_seq: int
    reason: Literal["retention", "damaged", "lost"]

    def __str__(self) -> str:
        """Return one line for a log."""
        return (
            f"{self.channel}/{self.partition}: records {self.first_seq} to {self.end_seq - 1} are gone ({self.reason})"
        )


def unpack_slab(description: Mapping[str, Any], data: memoryview) -> Iterator[Record]:
    """Yield the records of a slab of an answer; their frames are slices of its buffer."""
    channel, partition = description["channel"], description["partition"]
    attempts = description.get("attempts", 0)
    for row in description["records"]:
        if len(row) == _ONE_FRAME:
            seq, epoch, t_us, start, length = row
            yield Record(Place(channel, partition, epoch, seq), t_us, [data[start : start + length]], attempts)
            continue
        frames = [data[start : start + length] for start, length in zip(row[3::2], row[4::2], strict=True)]
        yield Record(Place(channel, partition, row[1], row[0]), row[2], frames, attempts)


def unpack_gaps(description: Mapping[str, Any], cursor_seq: int) -> Iterator[Gap]:
    """Yield what a slab's description says is missing before its first record."""
    channel, partition = description["channel"], description["partition"]
    if cut := description.get("cut"):
        yield Gap(channel, partition, cut["seq"], cursor_seq, "lost")
    if gap := description.get("gap"):
        yield Gap(channel, partition, gap[0], gap[1], "retention")
    if damaged := description.get("damaged"):
        yield Gap(channel, partition, damaged[0], damaged[1], "damaged")
