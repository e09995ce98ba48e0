"""Key pairs in memory, and a socket that connects with them."""

from __future__ import annotations

from typing import Any, NamedTuple

import zmq


class KeyPair(NamedTuple):
    """A public key and its secret, as Z85 text."""

    name: str
    public: str
    secret: str

    def __repr__(self) -> str:
        """Leave the secret out: this may come into a log."""
        return f"KeyPair({self.name!r}, {self.public!r})"


class ClientKeys(NamedTuple):
    """What a client shows, and the relay's public key that it insists on."""

    own: KeyPair
    relay: str

    def put_on(self, socket: zmq.Socket[Any]) -> None:
        """Let a socket connect with these keys."""
        socket.curve_publickey = self.own.public.encode()
        socket.curve_secretkey = self.own.secret.encode()
        socket.curve_serverkey = self.relay.encode()
