"""What the tests of journals share."""

from collections.abc import Sequence

from trapline.common.journal.layout import Buffer, pack_record


def record_size(frames: Sequence[Buffer]) -> int:
    """Return the bytes that a record takes in a segment, header included."""
    return pack_record(0, 0, 0, frames)[2]
