"""What strangers say to a port that wants keys: bytes of handshakes, made by hand, and a wire that can be tapped."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np


def greeting(mechanism: bytes = b"CURVE", *, minor: int = 1) -> bytes:
    """Return the 64 bytes with which ZMTP 3 begins."""
    return b"\xff" + bytes(8) + b"\x7f\x03" + bytes([minor]) + mechanism.ljust(20, b"\0") + b"\0" + bytes(31)


def command(name: bytes, body: bytes = b"", *, size: int | None = None) -> bytes:
    """Return a command frame, short or long; `size` is what it announces instead of its own."""
    data = bytes([len(name)]) + name + body
    told = len(data) if size is None else size
    head = b"\x04" + bytes([told]) if told < 256 else b"\x06" + told.to_bytes(8, "big")
    return head + data


HELLO = b"\x01\x00" + bytes(72) + bytes(range(32)) + bytes(7) + b"\x01" + bytes(80)
READY = b"\x0bSocket-Type\x00\x00\x00\x06DEALER" + b"\x07User-Id\x00\x00\x00\x07archive"

HANDSHAKES = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "zmtp 1": b"\x01\x00\x02\x00x",
    "zmtp 2": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00\x01\x00x",
    "half a greeting": greeting()[:30],
    "a greeting": greeting(),
    "no key": greeting(b"NULL") + command(b"READY", READY),
    "no key, as if let in": greeting(b"CURVE") + command(b"READY", READY),
    "a password": greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin"),
    "unknown mechanism": greeting(b"\xff" * 20),
    "hello of zeros": greeting() + command(b"HELLO", bytes(194)),
    "hello that cannot be opened": greeting() + command(b"HELLO", HELLO),
    "hello, short": greeting() + command(b"HELLO", HELLO[:50]),
    "hello, long": greeting() + command(b"HELLO", HELLO + bytes(5000)),
    "initiate first": greeting() + command(b"INITIATE", bytes(300)),
    "initiate, tiny": greeting() + command(b"INITIATE"),
    "message first": greeting() + command(b"MESSAGE", bytes(300)),
    "error": greeting() + command(b"ERROR", b"\xff" + bytes(10)),
    "error, empty": greeting() + command(b"ERROR"),
    "command without a name": greeting() + b"\x04\x00",
    "name longer than the command": greeting() + b"\x04\x02\xffA",
    "a message as the handshake": greeting() + b"\x00\x05hello",
    "a huge command": greeting() + command(b"HELLO", size=2**63 - 1),
    "a command of all bits": greeting() + b"\x06" + b"\xff" * 8 + bytes(100),
    "a huge message": greeting() + b"\x02" + (2**62).to_bytes(8, "big") + bytes(100),
    "just below the limit": greeting() + command(b"HELLO", size=(256 << 20) - 1),
}


def random_handshakes(seed: int, count: int) -> Iterator[bytes]:
    """Yield greetings with random bytes behind them, and real beginnings with flipped bytes."""
    random = np.random.default_rng(seed)
    real = list(HANDSHAKES.values())
    for i in range(count):
        if i % 2:
            yield greeting() + random.bytes(int(random.integers(1, 600)))
            continue
        data = bytearray(real[int(random.integers(len(real)))] or b"\xff")
        for position in random.integers(0, len(data), 3):
            data[position] = int(random.integers(256))
        yield bytes(data)


def say(address: str, data: bytes, *, listen_s: float = 0.0) -> bytes:
    """Connect, say something, listen a moment for an answer, and hang up."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=5) as stranger, contextlib.suppress(OSError):
        stranger.sendall(data)
        if listen_s:
            stranger.settimeout(listen_s)
            while more := stranger.recv(65536):
                heard += more
    return heard


class Wire:
    """A TCP proxy before a relay that keeps what each client said, and may change it; used as a context manager."""

    def __init__(self, address: str, change: Callable[[bytes], bytes] = lambda data: data) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._change = change
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.said: list[bytearray] = []

    def __enter__(self) -> Wire:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                relay = socket.create_connection(self._target)
                self._sockets += [client, relay]
                said = bytearray()
                self.said.append(said)
                threading.Thread(target=self._pass, args=(client, relay, said), daemon=True).start()
                threading.Thread(target=self._pass, args=(relay, client, None), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, said: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if said is not None:
                    data = self._change(data)
                    said += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
