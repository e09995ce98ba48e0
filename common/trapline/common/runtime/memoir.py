"""What a fold's own journals say that it has said: read when it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trapline.common.journal import PartitionReader
from trapline.common.runtime.context import Context
from trapline.schemas.header import Header, Place
from trapline.schemas.message import decode_header
from trapline.schemas.status import DeadLetter


@dataclass
class Memoir:
    """What was published since a snapshot.

    Attributes
    ----------
    decided
        What each output of the first channel consumed, in order.
    poison
        Inputs that could not be taken, ever.
    outputs
        Ids of what was published and not yet made again.
    ahead
        The same, until something new is said on the first channel: some are never made again. While there are any, the
        state is behind what was said.
    since
        Seqs from which the journals were read, by channel.
    """

    decided: list[list[Place]] = field(default_factory=list)
    poison: list[Place] = field(default_factory=list)
    outputs: set[bytes] = field(default_factory=set)
    ahead: set[bytes] = field(default_factory=set)
    since: dict[str, int] = field(default_factory=dict)

    def said(self, record: bytes) -> bool:
        """Tell whether an output was published before the restart; each is asked for once."""
        self.ahead.discard(record)
        if record in self.outputs:
            self.outputs.discard(record)
            return True
        return False


def read_memoir(context: Context, writes: Sequence[str], since: Mapping[str, int]) -> Memoir:
    """Read a fold's own partitions from the seqs that its snapshot names, and its own dead letters from the first."""
    memoir = Memoir(since={channel: since.get(channel, 0) for channel in writes})
    for channel in writes:
        headers = _headers(_own(context, channel), since.get(channel, 0))
        memoir.outputs |= {header.id for header in headers}
        if channel == writes[0]:
            # Outputs of one step name the same inputs: they were decided once.
            decided = [header.consumed for header in headers if header.consumed]
            memoir.decided = [c for i, c in enumerate(decided) if i == 0 or c != decided[i - 1]]
    memoir.ahead = set(memoir.outputs)
    for header in _headers(_own(context, "dead_letters"), 0):
        if isinstance(header, DeadLetter):
            memoir.poison.append(header.place)
    return memoir


def _own(context: Context, channel: str) -> Path:
    # Opening it as writer first makes recovery cut what was never committed.
    return context.outputs.writer(channel).directory


def _headers(directory: Path, since: int) -> list[Header]:
    return [decode_header(frame) for _, frame in PartitionReader(directory).first_frames(since)]
