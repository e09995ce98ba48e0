"""The door of a relay: who is let in through a socket that wants keys, asked by ZeroMQ itself (ZAP, RFC 27)."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter

import structlog
import zmq
from zmq.utils import z85

from trapline.common.security.guard import Peer
from trapline.common.security.pair import KeyPair
from trapline.common.security.trust import TrustList

HANDSHAKE_MS = 5000  # a stranger who does not get on with the handshake is hung up on
_DOMAIN = b"relay"
_TELL_S = 10.0  # strangers fill no log
# Connections less everything else are those of whom nothing else is known: they spoke no ZMTP 3.
_COUNTED: dict[int, str] = {
    zmq.EVENT_ACCEPTED: "connections",
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "connections_let_in",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "strangers_untrusted",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "strangers_malformed",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "strangers_broken_off",
}
EVENTS = sum(_COUNTED)
_MALFORMED: dict[int, str] = {
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: "strangers_without_key",
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: "strangers_undecipherable",
}

_log = structlog.get_logger()


class Gate:
    """Makes a socket want keys, answers for those that are trusted, and counts everyone who is not let in.

    Whoever serves the socket hands on what its monitor tells of `EVENTS`.

    Parameters
    ----------
    identity
        The relay's own key pair.
    trusted
        Whom to let in; looked at again for each who comes.
    counters
        Where strangers are counted, by kind.
    """

    def __init__(self, identity: KeyPair, trusted: TrustList, counters: Counter[str]) -> None:
        self._identity = identity
        self._trusted = trusted
        self._counters = counters
        # A peer can claim any property in its handshake, but not know this.
        self._seal = secrets.token_hex(16)
        self._tell_at = 0.0

    def guard(self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]) -> None:
        """Let all endpoints to which a socket is bound from now on want keys. The thread ends with the context."""
        zap = context.socket(zmq.REP)
        zap.linger = 0
        zap.bind("inproc://zeromq.zap.01")
        socket.curve_server = 1
        socket.curve_secretkey = self._identity.secret.encode()
        socket.zap_domain = _DOMAIN
        socket.handshake_ivl = HANDSHAKE_MS
        threading.Thread(target=self._serve, args=(zap,), name="relay gate", daemon=True).start()

    def who(self, frame: zmq.Frame) -> Peer:
        """Return who sent a message, by a frame of it: a key that was let in, or a program of this host through ipc."""
        seal, _, public = _property(frame, "User-Id").partition(":")
        if secrets.compare_digest(seal.encode(), self._seal.encode()):
            return public
        return None if _property(frame, "Peer-Address").startswith("localhost") else ""

    def note(self, event: int, value: int) -> None:
        """Count what a socket's monitor tells of who comes and who is not let in."""
        if name := _COUNTED.get(event):
            malformed = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            self._counters[_MALFORMED.get(value, name) if malformed else name] += 1

    def _serve(self, zap: zmq.Socket[bytes]) -> None:
        try:
            while True:
                zap.send_multipart(self._answer(zap.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        except Exception:  # noqa: BLE001  whatever it is, it closes the gate
            # Without this thread nobody new is let in: `who` knows none that it did not seal.
            _log.exception("the gate is closed: the relay lets nobody in any more, start it again")
        finally:
            zap.close()

    def _answer(self, frames: list[bytes]) -> list[bytes]:
        _, request, _, address, _, mechanism, *credentials = frames
        public = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" else ""
        self._trusted.refresh()
        rights = self._trusted.keys.get(public)
        if rights is None:
            self._tell(public, address.decode("ascii", "replace"))
            return [b"1.0", request, b"400", b"this relay does not trust the key", b"", b""]
        return [b"1.0", request, b"200", b"OK", f"{self._seal}:{public}".encode(), b""]

    def _tell(self, public: str, address: str) -> None:
        if time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + _TELL_S
            _log.warning("refused a key that is not trusted", key=public or "none", address=address)


def _property(frame: zmq.Frame, name: str) -> str:
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""
