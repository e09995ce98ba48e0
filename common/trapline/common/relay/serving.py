"""Answers that carry records: slabs of a partition's map, described by the header of the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trapline.common.journal import Slab
from trapline.common.relay.groups import Groups, Share
from trapline.common.relay.partitions import Partition, Partitions
from trapline.common.relay.readers import Readers
from trapline.common.relay.requests import MAX_REPLY_BYTES, Cursor, Fetch, Lease
from trapline.common.relay.standing import share_of, void_from

Description = dict[str, Any]
Part = tuple[Description, memoryview]

_MOST_RECORDS = 10_000  # of a partition in one answer: what it takes to describe them is bounded as well


def only_headers(slab: Slab) -> Slab:
    """Return a small slab with the first frame of each record: a copy, so that the rest need not travel."""
    parts, rows, position = [], [], 0
    for row in slab.rows:
        start, length = row[3:5] or (0, 0)
        parts.append(slab.data[start : start + length])
        # What is damaged may say that it is longer.
        rows.append([*row[:3], position, len(parts[-1])])
        position += len(parts[-1])
    return Slab(memoryview(b"".join(parts)), rows)


def settle_cursor(reader: Partition, cursor: Cursor) -> tuple[int, Description]:
    """Return the seq to go on with, and what the reader of this cursor must be told.

    ``gap`` names records that retention dropped before they were read, ``damaged`` those that cannot be read, both as
    [first, behind the last].
    ``cut`` says that the writer lost its unsynced end: what was read from that seq on, in that epoch, is void.
    """
    seq, notes = cursor.seq, Description()
    end = void_from(reader, cursor.epoch, seq)
    if end is not None and end < seq:
        notes["cut"] = {"epoch": cursor.epoch, "seq": end}
        seq = end
    if seq < reader.first_seq:
        notes["gap"] = [seq, reader.first_seq]
        seq = reader.first_seq
    readable = reader.readable_from(seq) if seq <= reader.next_seq else seq
    if readable > seq:
        notes["damaged"] = [seq, readable]
    return readable, notes


def serve_cursor(
    reader: Partition, cursor: Cursor, *, max_bytes: int, max_records: int, headers_only: bool
) -> tuple[Description, memoryview] | None:
    """Return the description and the buffer of the records behind a cursor; None when there is nothing to say."""
    seq, notes = settle_cursor(reader, cursor)
    if seq > reader.next_seq:
        # Only its writer can tell where the journal goes on after a power cut.
        return None
    bound = 1 << 62 if headers_only else max_bytes
    slab = reader.slab(seq, max_bytes=bound, max_records=max_records)
    if not slab.rows and not notes:
        return None
    if headers_only:
        slab = only_headers(slab)
    description = {
        "channel": cursor.channel,
        "partition": cursor.partition,
        "next_seq": seq + len(slab.rows),
        "end": reader.next_seq,
        "records": slab.rows,
        **notes,
    }
    return description, slab.data


def serve_fetch(catalogue: Partitions, request: Fetch, counters: Counter[str]) -> Iterator[Part]:
    """Yield the parts of the answer to a fetch, within its bounds."""
    budget = min(request.max_bytes, MAX_REPLY_BYTES)
    for cursor in request.cursors:
        reader = catalogue.get(cursor.channel, cursor.partition)
        if reader is None:
            continue
        most = min(request.max_records, _MOST_RECORDS)
        served = serve_cursor(reader, cursor, max_bytes=budget, max_records=most, headers_only=request.headers_only)
        if served is None:
            continue
        for note, counter in (("gap", "records_dropped_unread"), ("damaged", "records_damaged")):
            first, end = served[0].get(note, (0, 0))
            counters[counter] += end - first
        budget -= len(served[1])
        yield served
        if budget <= 0:
            return


def serve_lease(
    catalogue: Partitions, groups: Groups, request: Lease, now: float, counters: Counter[str]
) -> Iterator[Part]:
    """Yield the records that a worker gets, each leased to it."""
    left, budget = request.max_records, MAX_REPLY_BYTES
    for channel in request.channels:
        for name, reader in catalogue.of_channel(channel):
            share = share_of(groups, request.group, channel, name, reader)
            counters["records_dropped_unread"] += share.skip_to(reader.first_seq)
            candidates = share.candidates(reader.first_seq, reader.next_seq)
            while left and budget > 0 and (seq := next(candidates, None)) is not None:
                if _skip_damaged(reader, share, seq, counters):
                    continue
                left -= 1
                attempts = share.take(seq, request.worker, now + groups.lease_s)
                slab = reader.slab(seq, max_bytes=1, max_records=1)
                slab = only_headers(slab) if request.headers_only else slab
                budget -= len(slab.data)
                description = {"channel": channel, "partition": name, "attempts": attempts}
                yield description | {"records": slab.rows}, slab.data


def _skip_damaged(reader: Partition, share: Share, seq: int, counters: Counter[str]) -> bool:
    """Give up a record that cannot be read, for a group; return whether it is one."""
    if reader.readable_from(seq) == seq:
        return False
    share.finish(seq)
    counters["records_damaged"] += 1
    return True


def overview(catalogue: Partitions, groups: Groups, readers: Readers) -> dict[str, Any]:
    """Return what there is, as the answer to `info`.

    ``oldest_us`` is when the first record was appended that a group has not done, or a named reader not read; it is
    absent when there is none, and with it and the clock one knows how far behind they are.
    """
    return {
        "catalogue": catalogue.version,
        "partitions": [
            {
                "channel": channel,
                "partition": partition,
                "first_seq": r.first_seq,
                "next_seq": r.next_seq,
                "epoch": r.epoch,
                "bytes": r.size_bytes,
                "data_bytes": r.data_bytes,
            }
            for (channel, partition), r in catalogue
        ],
        "groups": [
            {
                "group": g,
                "channel": c,
                "partition": p,
                "floor": s.floor,
                "leased": len(s.leases),
                "redelivered": s.redelivered,
                **_age(catalogue, c, p, s.floor),
            }
            for (g, c, p), s in groups
        ],
        "readers": [
            {
                "reader": n,
                "channel": c,
                "partition": p,
                "seq": at.seq,
                "safe": at.safe,
                **_age(catalogue, c, p, at.seq),
            }
            for (n, c, p), at in readers
        ],
    }


def _age(catalogue: Partitions, channel: str, partition: str, seq: int) -> dict[str, int]:
    reader = catalogue.get(channel, partition)
    if reader is None or seq >= reader.next_seq:
        return {}
    first = reader.readable_from(max(seq, reader.first_seq))
    return {"oldest_us": reader.time_of(first)} if first < reader.next_seq else {}
