"""What the tests of journals share."""

from collections.abc import Sequence

from trapline.common.journal.layout import Buffer, pack_record


def record_size(frames: Sequence[Buffer]) -> int:
    """Return the bytes that a record takes in a segment, header included."""
    return pack_record(0, 0, 0, frames)[2]


def contents(reader, seq=None, **bounds):
    """Return [(seq, frames)] of all records from a seq on."""
    seq = reader.first_seq if seq is None else seq
    found = []
    while seq < reader.next_seq:
        slab = reader.slab(seq, **({"max_bytes": 1 << 20, "max_records": 100} | bounds))
        found += [(entry.seq, [bytes(slab.data[o : o + n]) for o, n in entry.spans]) for entry in slab.entries]
        seq += len(slab.entries)
    return found
