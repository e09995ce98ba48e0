"""The bytes of a journal: how a record lies in a segment file.

A record begins at a multiple of 64 bytes: a header of 64 bytes, then the lengths of its frames (u64 each), then the
frames; the lengths and every frame are padded to 64 bytes, so that arrays can be used in place. The first four bytes of
the header are written last: until then they are zero and the record does not exist. All integers are little-endian.

======  ====  =====================================================================
offset  type  meaning
======  ====  =====================================================================
0       u32   magic, `MAGIC`
4       u32   epoch of the writer
8       u64   seq
16      i64   time of the append, microseconds since 1970-01-01 UTC
24      u64   bytes that follow this header, padding included
32      u32   number of frames
36      u32   zero
40      u64   xxh3_64 of the 40 bytes before and of all bytes that follow this header
48            zero
======  ====  =====================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

Buffer = bytes | bytearray | memoryview

MAGIC = 0x4C505254
MAGIC_BYTES = 4
ALIGN = 64
HEADER_BYTES = 64
MAX_FRAMES = 4096
SUFFIX = ".log"

_HEADER = struct.Struct("<IIQqQII")
_CHECKSUM = struct.Struct("<Q")
_SEALED = struct.Struct(f"<{_HEADER.size}sQ{HEADER_BYTES - _HEADER.size - _CHECKSUM.size}x")
_LENGTH = struct.Struct("<Q")
_ONE_LENGTH = struct.Struct(f"<Q{ALIGN - _LENGTH.size}x")
_PADDINGS = [bytes(n) for n in range(ALIGN)]
JOINED_BYTES = 65536  # below this a copy is cheaper than a buffer of its own


class RecordHeader(NamedTuple):
    """What stands before a record's frames."""

    magic: int
    epoch: int
    seq: int
    t_us: int
    size: int
    n_frames: int
    reserved: int


def padding(length: int) -> int:
    """Return the number of bytes from `length` to the next multiple of 64."""
    return -length % ALIGN


def pack_record(epoch: int, seq: int, t_us: int, frames: Sequence[Buffer]) -> tuple[bytes, list[Buffer], int]:
    """Return the header of a record, the buffers that follow it, and the bytes of all that.

    Large frames are among the buffers themselves, not copied.
    """
    lengths = [frame.nbytes if isinstance(frame, memoryview) else len(frame) for frame in frames]
    size = -(-8 * len(lengths) // ALIGN) * ALIGN + sum([length + -length % ALIGN for length in lengths])
    start = _HEADER.pack(MAGIC, epoch, seq, t_us, size, len(lengths), 0)
    if size <= JOINED_BYTES:
        joined = b"".join(_body(frames, lengths))
        return _SEALED.pack(start, xxhash.xxh3_64_intdigest(start + joined)), [joined], HEADER_BYTES + size
    body = _body(frames, lengths)
    checksum = xxhash.xxh3_64(start)
    for part in body:
        checksum.update(part)
    return _SEALED.pack(start, checksum.intdigest()), [part for part in body if len(part)], HEADER_BYTES + size


def _body(frames: Sequence[Buffer], lengths: Sequence[int]) -> list[Buffer]:
    """Return what follows the header of a record."""
    if len(lengths) == 1:
        return [_ONE_LENGTH.pack(lengths[0]), frames[0], _PADDINGS[-lengths[0] % ALIGN]]
    table = struct.pack(f"<{len(lengths)}Q", *lengths)
    body: list[Buffer] = [table, _PADDINGS[-len(table) % ALIGN]]
    for frame, length in zip(frames, lengths, strict=True):
        body += (frame, _PADDINGS[-length % ALIGN])
    return body


def read_header(segment: Buffer, offset: int) -> RecordHeader:
    """Return the header at an offset; the caller sees to it that 64 bytes are there."""
    return RecordHeader(*_HEADER.unpack_from(segment, offset))


def plausible(header: RecordHeader, seq: int, room: int) -> bool:
    """Tell whether a header can be that of the record `seq` with `room` bytes left behind it."""
    return (
        header.magic == MAGIC
        and header.seq == seq
        and header.n_frames <= MAX_FRAMES
        and 8 * header.n_frames <= header.size <= room
    )


def frame_spans(segment: Buffer, offset: int, header: RecordHeader) -> list[tuple[int, int]]:
    """Return (offset in the segment, length) of each frame of the record at `offset`."""
    table = offset + HEADER_BYTES
    if header.n_frames == 1:
        return [(table + ALIGN, *_LENGTH.unpack_from(segment, table))]
    position = table + 8 * header.n_frames
    position += padding(position)
    spans = []
    for length in struct.unpack_from(f"<{header.n_frames}Q", segment, table):
        spans.append((position, length))
        position += length + padding(length)
    return spans


def describe_record(segment: Buffer, offset: int, start: int) -> list[int]:
    """Return ``[seq, epoch, t_us, offset, length, offset, length, ...]`` of a record, offsets counted from `start`."""
    _, epoch, seq, t_us, _, n_frames, _ = header = _HEADER.unpack_from(segment, offset)
    if n_frames == 1:
        table = offset + HEADER_BYTES
        return [seq, epoch, t_us, table + ALIGN - start, *_LENGTH.unpack_from(segment, table)]
    row: list[int] = [seq, epoch, t_us]
    for position, length in frame_spans(segment, offset, RecordHeader(*header)):
        row += (position - start, length)
    return row


def intact(segment: memoryview, offset: int, header: RecordHeader) -> bool:
    """Tell whether the frames of a plausible record are inside it and have the checksum that was written with them."""
    body = offset + HEADER_BYTES
    end = body + header.size
    if any(start + length > end for start, length in frame_spans(segment, offset, header)):
        return False
    checksum = xxhash.xxh3_64(segment[offset : offset + _HEADER.size])
    checksum.update(segment[body:end])
    (written,) = _CHECKSUM.unpack_from(segment, offset + _HEADER.size)
    return bool(checksum.intdigest() == written)


def segment_path(directory: Path, first_seq: int) -> Path:
    """Return the file of the segment whose first record is `first_seq`."""
    return directory / f"{first_seq:020d}{SUFFIX}"


def segment_files(directory: Path) -> list[tuple[int, Path]]:
    """Return (first seq, file) of the segments in a directory, in order. Other files are not ours."""
    found = [(int(p.stem), p) for p in directory.glob(f"*{SUFFIX}") if p.stem.isdecimal()]
    return sorted(found)
