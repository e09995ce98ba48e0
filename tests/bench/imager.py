"""An imager for benchmarks: it listens, one port per band, and sends prepared bytes as fast as they are taken."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from bench.harness import InvalidRunError
from trapline.simulator.framing import Parts

_ACCEPT_S = 60.0
_SEND_S = 120.0


class Imager:
    """Ports that wait for one client each."""

    def __init__(self, listening: Sequence[socket.socket], threads: ThreadPoolExecutor) -> None:
        self._listening, self._threads = listening, threads
        self._peers: list[socket.socket] = []

    @property
    def ports(self) -> list[int]:
        """The port of each band."""
        return [one.getsockname()[1] for one in self._listening]

    @property
    def streams(self) -> list[dict[str, str]]:
        """What `image_ingest` is told to connect to."""
        return [{"address": f"tcp://127.0.0.1:{port}", "instrument": "aartfaac"} for port in self.ports]

    def accept(self) -> None:
        """Wait until a client is there on every port."""
        try:
            self._peers = [one.accept()[0] for one in self._listening]
        except TimeoutError:
            raise InvalidRunError(f"nobody connected to the ports {self.ports}") from None
        for peer in self._peers:
            peer.settimeout(_SEND_S)

    def send(self, images: Sequence[Sequence[Parts]]) -> list[float]:
        """Send the images of each port, all ports at once; return when the kernel had the last byte of each port."""
        return list(self._threads.map(_send_all, self._peers, images))

    def hang_up(self) -> None:
        """Close all connections."""
        for peer in self._peers:
            peer.close()
        self._peers = []


def _send_all(peer: socket.socket, images: Sequence[Parts]) -> float:
    for parts in images:
        for part in parts:
            peer.sendall(part)
    return time.perf_counter()


@contextmanager
def imager(n_ports: int) -> Iterator[Imager]:
    """Listen on so many free ports while the block lasts."""
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n_ports)]
        for one in listening:
            one.settimeout(_ACCEPT_S)
        made = Imager(listening, stack.enter_context(ThreadPoolExecutor(n_ports)))
        stack.callback(made.hang_up)
        yield made
