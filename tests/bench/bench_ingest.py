"""`ingest`: processor time per GB of `image_ingest`, against a loop of `recv_into` and a file that is appended to.

Both read the same bytes from the same kind of ports in a process of their own. Ours parses headers, judges and
describes every image, and appends it to its journal; nobody reads that.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness import Comparison, InvalidRunError, Size, Target, in_pairs
from bench.helpers import Helper, cpu_s, helper, told
from bench.imager import Imager, imager
from bench.meshes import Running, eventually, running_service
from bench.skies import N_BANDS, Sky
from trapline.common.journal import PartitionReader
from trapline.simulator.framing import Parts, size_of

_TARGET = Target("<=", 2.0)


@dataclass(frozen=True, slots=True)
class _Load:
    side_px: int
    n_ports: int
    images_per_port: int
    pairs: int


_LOADS: dict[Size, tuple[_Load, ...]] = {
    "small": (_Load(512, 4, 4, 3),),
    "full": (_Load(1024, 16, 8, 10), _Load(2300, 16, 2, 5)),
}


def ingest(size: Size) -> list[Comparison]:
    """Compare seconds of processor time per GB; 2300 x 2300 pixels are reported without a target."""
    return [_compare(load, _TARGET if number == 0 else None) for number, load in enumerate(_LOADS[size])]


def _compare(load: _Load, target: Target | None) -> Comparison:
    sky = Sky.of(load.side_px, 100, N_BANDS)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="trapline-bench-")))
        ports, others = (stack.enter_context(imager(load.n_ports)) for _ in range(2))
        tables = {
            "journal": {"channels": {"images": {"segment_bytes": 128 << 20, "retention": {"limit_bytes": 512 << 20}}}},
            "relay": {"retention_s": 1.0},
        }
        relay = stack.enter_context(running_service("trapline.common.relay", directory, tables))
        assert relay.relay
        tables["image_ingest"] = {"streams": ports.streams}
        running = stack.enter_context(running_service("trapline.image_ingest", directory, tables))
        reading = stack.enter_context(helper(_receive, others.ports, directory / "baseline"))
        ports.accept()
        others.accept()
        ours = _Ours(sky, load, ports, running)
        values = in_pairs(ours.cpu_s_per_gb, lambda: _bare(ours.images(), others, reading), load.pairs)
        ports.hang_up()
    notes = {"images/s that came through": ours.images_received / ours.seconds}
    return Comparison(f"{load.n_ports} ports, {load.side_px} px", "s per GB", *values, target, notes)


class _Ours:
    """image_ingest, and the journal that it writes."""

    def __init__(self, sky: Sky, load: _Load, ports: Imager, running: Running) -> None:
        self._sky, self._load, self._ports, self._running = sky, load, ports, running
        self._directory = running.directory / "journal" / "images" / "0"
        self._journal: PartitionReader | None = None
        self._frame = 0
        self.images_received, self.seconds = 0, 0.0

    def images(self) -> list[list[Parts]]:
        """Return the images of each port; none was there before."""
        per_frame = -(-self._load.n_ports // N_BANDS)
        first, self._frame = self._frame, self._frame + per_frame * self._load.images_per_port
        return [
            [
                self._sky.parts(port % N_BANDS, first + per_frame * number + port // N_BANDS)
                for number in range(self._load.images_per_port)
            ]
            for port in range(self._load.n_ports)
        ]

    def cpu_s_per_gb(self) -> float:
        """Send images, and return the processor time that it took until all were in the journal."""
        images = self.images()
        before, start = cpu_s(self._running.process.pid), time.perf_counter()
        self._ports.send(images)
        self.images_received += sum(map(len, images))
        eventually(lambda: self._appended() >= self.images_received, "the last image", self._running)
        self.seconds += time.perf_counter() - start
        return (cpu_s(self._running.process.pid) - before) / _gb(images)

    def _appended(self) -> int:
        if self._journal is None:
            self._journal = PartitionReader(self._directory)
        self._journal.refresh()
        return self._journal.next_seq


def _gb(images: Sequence[Sequence[Parts]]) -> float:
    return sum(size_of(parts) for port in images for parts in port) / 1e9


def _bare(images: Sequence[Sequence[Parts]], ports: Imager, reading: Helper) -> float:
    reading.tell([size_of(port[0]) for port in images] + [len(images[0])])
    ports.send(images)
    seconds, total = reading.hear()
    if total != sum(size_of(parts) for port in images for parts in port):
        raise InvalidRunError("the baseline lost bytes")
    return float(seconds) / _gb(images)


def _receive(pipe: Connection, ports: Sequence[int], path: Path) -> None:
    """Receive images of known size from every port into one buffer each, and append each to a file."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for port in ports]
        for told_ in told(pipe):
            *sizes, count = told_
            buffers = [memoryview(bytearray(size)) for size in sizes]
            start = time.process_time()
            total = _append_all(peers, buffers, count, path)
            pipe.send((time.process_time() - start, total))
            path.unlink()


def _append_all(peers: Sequence[socket.socket], buffers: Sequence[memoryview], count: int, path: Path) -> int:
    filled, left, total = [0] * len(peers), [count] * len(peers), 0
    with selectors.DefaultSelector() as selector, path.open("wb", buffering=0) as file:
        for number, peer in enumerate(peers):
            selector.register(peer, selectors.EVENT_READ, number)
        while any(left):
            for key, _ in selector.select():
                number = key.data
                filled[number] += peers[number].recv_into(buffers[number][filled[number] :])
                if filled[number] == len(buffers[number]):
                    total += file.write(buffers[number])
                    filled[number], left[number] = 0, left[number] - 1
    return total
