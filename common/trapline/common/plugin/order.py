"""The order in which a plug-in took its inputs, on disk: several partitions have no order of their own.

Without it a state that was made again after a death could differ from what had been published with the first one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path

import msgpack

from trapline.common.channel import Record
from trapline.common.journal.epochs import replace_file
from trapline.common.runtime.order import Consumed, PartitionKey, Step
from trapline.schemas.header import Place
from trapline.schemas.packing import pack

Spot = tuple[str, str, int]
"""(channel, partition, seq)"""

_BYTES_OF_A_COUNT = 16384  # of frames that wait: a reader ahead of a slow function must not fill the memory


class TakenLog:
    """What was taken since the last snapshot but one, in order: two files, the older given up with each snapshot.

    An entry is written before its input is taken, to the page cache: it outlives `kill -9`. After a power cut the end
    may be missing; then what follows is taken as it comes, and the outputs that were lost with it are made again.

    Parameters
    ----------
    path
        Of the newer file; the older has the suffix ``.before``.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, path.with_suffix(".before")
        self._file: FileIO | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[Spot]:
        """Return the entries, and leave the file ready to go on behind the last whole one."""
        self.close()
        older, newer = _entries(self._before), _entries(self._path)
        replace_file(self._path, b"".join(map(pack, newer)))
        self._open()
        return older + newer

    def add(self, place: Place) -> None:
        """Note that an input is taken now."""
        assert self._file is not None
        self._file.write(pack([place.channel, place.partition, place.seq]))

    def snapshot(self) -> None:
        """Begin a new file: called before a snapshot is written, so that the one before it is still complete."""
        self.close()
        self._path.replace(self._before)
        self._open()

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)


class TakenOrder:
    """Inputs as they come, and after a restart as they came then.

    Parameters
    ----------
    log
        What was taken before.
    floors
        Where to begin in partitions that no snapshot knows.
    """

    def __init__(self, log: TakenLog, floors: dict[PartitionKey, int]) -> None:
        self._log = log
        self._repeat = deque(log.read())
        self._consumed = {key: Consumed(floor) for key, floor in floors.items()}
        self._waiting: dict[Spot, Record] = {}
        self._bytes = 0
        self._skipped: set[Spot] = set()

    def offer(self, record: Record) -> None:
        """Take notice of an input, unless it was consumed before."""
        spot = _spot(record.place)
        done = self._consumed.setdefault(spot[:2], Consumed(spot[2]))
        if spot[2] not in done and spot not in self._waiting:
            self._waiting[spot] = record
            self._bytes += _size(record)

    def take(self, now: float) -> Step | None:  # noqa: ARG002
        """Return what was taken next in the life before, then what came first; None when that is not here."""
        while self._repeat and self._is_consumed(self._repeat[0]):
            self._repeat.popleft()
        spot = self._repeat[0] if self._repeat else next(iter(self._waiting), None)
        record = self._waiting.pop(spot, None) if spot else None
        if record is None or spot is None:
            return None
        self._bytes -= _size(record)
        if self._repeat:
            self._repeat.popleft()
        else:
            self._log.add(record.place)
        self._consumed[spot[:2]].add(spot[2])
        return Step((record,), spot in self._skipped)

    def follow(self, decided: Iterable[Sequence[Place]]) -> None:
        """Do nothing: the log knows more than the outputs, which not every input has."""

    def skip(self, places: Iterable[Place]) -> None:
        """Mark inputs that cannot be taken."""
        self._skipped |= {_spot(place) for place in places}

    def seen(self, keys: Iterable[PartitionKey], *, caught_up: bool) -> None:
        """Wait no more for inputs that are in no partition: a writer lost its unsynced end in a power cut."""
        if caught_up:
            read = set(keys)
            self._repeat = deque(s for s in self._repeat if s[:2] not in read or s in self._waiting)

    def progress(self) -> dict[PartitionKey, Consumed]:
        """Return what was consumed of each partition."""
        return self._consumed

    def buffered(self) -> int:
        """Return how much waits: so many inputs, or so many times 16 kB if that is more."""
        return max(len(self._waiting), self._bytes // _BYTES_OF_A_COUNT)

    def restore(self, progress: dict[PartitionKey, Consumed]) -> None:
        """Take up what a snapshot holds."""
        self._consumed |= progress

    def _is_consumed(self, spot: Spot) -> bool:
        done = self._consumed.get(spot[:2])
        return done is not None and spot[2] in done


def _spot(place: Place) -> Spot:
    return place.channel, place.partition, place.seq


def _size(record: Record) -> int:
    return sum(memoryview(frame).nbytes for frame in record.frames)


def _entries(path: Path) -> list[Spot]:
    """Return the whole entries of a file; a torn one at its end is left out."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(path.read_bytes() if path.exists() else b"")
    found: list[Spot] = []
    try:
        for channel, partition, seq in unpacker:
            found.append((str(channel), str(partition), int(seq)))
    except (ValueError, TypeError, msgpack.exceptions.UnpackException):
        return found
    return found
