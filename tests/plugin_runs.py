"""Plug-ins as their users run them: a file, a relay, journals that someone writes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mesh_runs import ROOT, TRAPLINE, environment
from trapline.common.channel.event import Event
from trapline.common.channel.record import Record
from trapline.common.journal import JournalWriter, PartitionReader
from trapline.schemas.header import Place
from trapline.schemas.message import encode
from trapline.schemas.registry import schema_of

EXAMPLES = ROOT / "deploy" / "plugins"

BRIGHT = '''
    import msgspec, numpy as np
    from trapline.plugin import Id, publishes, row_of, subscribes

    class Bright(msgspec.Struct):
        """A bright point."""
        object_id: Id
        flux: float
        number: int

    class Count(msgspec.Struct):
        total: int = 0

    @subscribes("lightcurves", state=Count)
    @publishes("bright", Bright)
    def find(event, state):
        for row in np.flatnonzero(event["flux_int"] > 5):
            state.total += 1
            yield Bright(row_of(event["object_id"], row), event["flux_int"][row], state.total)
'''


def write_plugin(directory: Path, text: str = BRIGHT, name: str = "bright_finder") -> Path:
    path = directory / f"{name}.py"
    path.write_text(textwrap.dedent(text))
    return path


class Journals:
    """Appends messages to a partition of the channel of their schema."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[tuple[str, str], JournalWriter] = {}

    def append(self, *messages, partition: str = "0", channel: str | None = None):
        for message in messages:
            self.append_frames(encode(message), channel or schema_of(type(message.header)).channel, partition)

    def append_frames(self, frames, channel, partition="0"):
        key = (channel, partition)
        if key not in self._writers:
            self._writers[key] = JournalWriter(self._directory / channel / partition)
        self._writers[key].append(frames)

    def close(self):
        for writer in self._writers.values():
            writer.close()


def published(directory: Path, channel: str, partition: str):
    """Return what is in a partition as events, typed or not; none while it is not there."""
    reader, found = PartitionReader(directory / channel / partition), []
    seq = reader.first_seq
    while seq < reader.next_seq:
        slab = reader.slab(seq, max_bytes=1 << 24, max_records=1000)
        for e in slab.entries:
            frames = [bytes(slab.data[o : o + n]) for o, n in e.spans]
            found.append(Event(Record(Place(channel, partition, e.epoch, e.seq), e.t_us, frames)))
        seq += len(slab.entries)
    return found


def start_plugin(path: Path, *options: str, data: Path, **variables: str) -> subprocess.Popen[str]:
    """Run `trapline plugin FILE` beside the relay of a data directory."""
    more = {"TRAPLINE__MESH__DATA_DIRECTORY": str(data), "PYTHONUNBUFFERED": "1", **variables}
    return subprocess.Popen(
        [*TRAPLINE, "plugin", str(path), *options],
        cwd=data.parent,
        env=environment(more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running_plugin(path: Path, *options: str, data: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a plug-in while the block lasts; it must drain when it is told to, and end well."""
    process = start_plugin(path, *options, data=data, **variables)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    finally:
        if process.poll() is None:
            process.kill()
            print(process.communicate()[1])
