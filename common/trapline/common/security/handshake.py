"""Why a relay does not answer, as far as the handshake tells; and trying again where ZeroMQ gives up."""

from __future__ import annotations

import asyncio
import contextlib

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from trapline.common.security.pair import ClientKeys

_RETRY_S = 1.0
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class HandshakeWatch:
    """Follows the handshakes of a client's socket.

    A socket that was refused never connects again by itself. This one does, so that a key that comes to be trusted is
    let in without a restart.

    Parameters
    ----------
    socket
        Connected to `address` alone, or about to be.
    keys
        With which it connects.
    """

    def __init__(self, socket: zmq.asyncio.Socket, address: str, keys: ClientKeys | None) -> None:
        self.trouble = ""
        """why the last handshake failed; empty when it did not"""
        self._socket, self._address, self._keys = socket, address, keys
        self._monitor = socket.get_monitor_socket(_EVENTS)
        self._task = asyncio.create_task(self._follow(), name=f"handshakes {address}")

    async def close(self) -> None:
        """Stop following."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    async def _follow(self) -> None:
        while True:
            message = parse_monitor_message(await self._monitor.recv_multipart())
            self.trouble = self._explain(zmq.Event(message["event"]), message["value"])
            if message["event"] in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                await asyncio.sleep(_RETRY_S)
                with contextlib.suppress(zmq.ZMQError):
                    self._socket.disconnect(self._address)
                self._socket.connect(self._address)

    def _explain(self, event: zmq.Event, value: int) -> str:
        match event:
            case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return ""
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH if self._keys:
                own = self._keys.own
                return (
                    f"it does not trust the key {own.name} ({own.public}): give {own.name}.pub to its operator, "
                    f"who allows it with `trapline keys trust {own.name}.pub`"
                )
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                if self._keys:
                    return "it is open and knows no keys: leave the key out, or let it want keys"
                return "it wants a key: name its public key in [security] relays, or connect(address, key=...)"
            case _ if self._keys:
                return (
                    "it hung up during the handshake: most likely the pinned key is not that of this relay; "
                    f"pinned is {self._keys.relay}"
                )
            case _:
                return "something answers there that is no relay"
