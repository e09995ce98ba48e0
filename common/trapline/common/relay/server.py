"""The relay's socket: one ROUTER, on TCP for everyone and on ipc for this host."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog
import zmq
from zmq.utils.monitor import parse_monitor_message

from trapline.common.journal import now_us
from trapline.common.relay.config import RelayConfig
from trapline.common.relay.core import Answer, RelayCore
from trapline.common.relay.presence import Connections
from trapline.common.relay.retention import Keeper
from trapline.common.security.gate import EVENTS, Gate

_MOST_UNREAD = 100  # answers that a peer may leave unread: bounds what a stopped one costs
_MOST_UNSERVED = 100  # requests of a peer that are received before it must wait
_BURST = 100  # requests served before the waiting ones are looked at
_STALL_S = 0.5  # a turn that takes so much longer was none: the process was stopped, or the machine slept
_COPY_BYTES = 65536  # below this a copy is cheaper than keeping the map in hand


_log = structlog.get_logger()


class RelayServer:
    """Moves frames between the socket and the core, in one thread.

    Parameters
    ----------
    core
        Serves the requests.
    config
        Address and intervals.
    keeper
        Applies retention.
    gate
        Lets peers in through TCP by their keys. Without one that is open; ipc always is.

    Raises
    ------
    OSError
        When the port is in use.
    """

    def __init__(
        self, core: RelayCore, config: RelayConfig, *, ipc: str, keeper: Keeper, gate: Gate | None = None
    ) -> None:
        self.core = core
        self._config = config
        self._keeper = keeper
        self._gate = gate
        # One thread may wait for a disk: what it sends is mapped.
        self.turned_at = time.monotonic()
        """when the loop last began a turn, of the monotonic clock"""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=2)
        self._socket = self._context.socket(zmq.ROUTER)
        self._closing: list[Callable[[], None]] = []
        self._connections = Connections()
        self._polled = time.monotonic()
        self._configure()
        try:
            self._bind(ipc)
        except zmq.ZMQError as error:
            self._close_sockets()
            raise OSError(
                error.errno, f"cannot listen on {config.host}:{config.port}: {error.strerror}; "
                "another mesh may be running; choose another [relay] port"
            ) from None  # fmt: skip

    def _configure(self) -> None:
        # A peer that left, or does not read, is noticed when we write to it: nothing is dropped without a word.
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, _MOST_UNREAD)
        self._socket.setsockopt(zmq.RCVHWM, _MOST_UNSERVED)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, self._config.max_request_bytes)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6000)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | (EVENTS if self._gate else 0))
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def _bind(self, ipc: str) -> None:
        self._socket.bind(f"ipc://{ipc}")
        Path(ipc).chmod(0o600)
        if self._gate:
            # What is set on a socket holds for the endpoints that follow.
            self._gate.guard(self._context, self._socket)
        ip6 = ":" in self._config.host
        self._socket.setsockopt(zmq.IPV6, ip6)
        host = f"[{self._config.host}]" if ip6 else self._config.host
        self._socket.bind(f"tcp://{host}:{self._config.port or '*'}")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until told to stop."""
        ready()
        next_poll = next_retention = 0.0
        try:
            while not stop.is_set():
                self.turned_at = time.monotonic()
                self._receive(self._timeout(next_poll))
                # Once more: it may have been stopped while it served.
                now = self._note_stall(0.0)
                poll = now >= next_poll
                if poll:
                    next_poll = now + self._config.poll_s
                self._send_all(self.core.advance(now, poll=poll))
                # A full segment is the time to give up another, which its writer may then use again.
                if now >= next_retention or self._keeper.is_due():
                    next_retention = now + self._config.retention_s
                    self._apply_retention()
        finally:
            self.close()

    def on_close(self, call: Callable[[], None]) -> None:
        """Call something once everything is closed."""
        self._closing.append(call)

    def close(self) -> None:
        """Close the core and the sockets."""
        self.core.close()
        self._close_sockets()
        for call in self._closing:
            call()

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        # Waits for the gate, whose thread ends when it hears of this.
        self._context.term()

    def _timeout(self, next_poll: float) -> float:
        deadline = self.core.next_deadline()
        until = next_poll if deadline is None else min(deadline, next_poll)
        return max(0.0, until - time.monotonic())

    def _receive(self, timeout_s: float) -> None:
        ready = dict(self._poller.poll(math.ceil(timeout_s * 1000)))
        self._note_stall(timeout_s)
        for _ in range(_BURST if self._socket in ready else 0):
            try:
                first = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            self._serve(first, self._socket.recv_multipart() if first.more else [])
        # Behind the requests: what somebody said before leaving still counts.
        self._note_events()

    def _note_stall(self, timeout_s: float) -> float:
        """Let no lease end in time in which this process did not run: nobody could extend it. Return the time."""
        polled, self._polled = self._polled, time.monotonic()
        stall_s = self._polled - polled - timeout_s
        if stall_s > _STALL_S:
            self.core.note_stall(stall_s)
        return self._polled

    def _serve(self, first: zmq.Frame, frames: list[bytes]) -> None:
        peer = first.bytes
        if peer not in self._connections:
            self._note_events()
            self._connections.came(peer, _descriptor(first))
        who = self._gate.who(first) if self._gate else None
        self._send_all(self.core.handle(peer, frames, time.monotonic(), who))

    def _note_events(self) -> None:
        """Take notice of who came and who left since."""
        while self._monitor.poll(0):
            message = parse_monitor_message(self._monitor.recv_multipart())
            event, value = int(message["event"]), int(message["value"])
            if self._gate:
                self._gate.note(event, value)
            if event == zmq.EVENT_DISCONNECTED and (peer := self._connections.ended(value)) is not None:
                self.core.forget_peer(peer)

    def _send_all(self, answers: Iterable[Answer]) -> None:
        for peer, frames in answers:
            try:
                self._send([peer, *frames])
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                    raise
                self.core.counters["peers_lost" if error.errno == zmq.EHOSTUNREACH else "peers_not_reading"] += 1
                self.core.forget_peer(peer)

    def _send(self, frames: list[Any]) -> None:
        last = len(frames) - 1
        for i, frame in enumerate(frames):
            flags = zmq.NOBLOCK | (zmq.SNDMORE if i < last else 0)
            self._socket.send(frame, flags, copy=len(frame) < _COPY_BYTES)

    def _apply_retention(self) -> None:
        counters = self.core.counters
        try:
            freed = self._keeper.apply(now_us())
        except OSError as error:
            # A segment that cannot be unlinked now may be the next time.
            counters["retention_failures"] += 1
            _log.error("cannot free space", reason=str(error))
            return
        counters["retention_bytes_freed"] += freed.size
        for forced in freed.forced:
            counters["retention_records_forced"] += forced.end_seq - forced.first_seq
            _log.error(
                "dropped what was still needed: the channel is at its hard limit, or the disk is full",
                partition=f"{forced.channel}/{forced.partition}",
                first_seq=forced.first_seq,
                end_seq=forced.end_seq,
                needed_by=forced.needed_by,
            )


def _descriptor(frame: zmq.Frame) -> int:
    """Return the descriptor of the connection through which a message came; -1 where ZeroMQ does not tell."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1
