"""What plug-ins and notebooks import: join the mesh, read its channels, publish to new ones.

>>> from trapline.client import connect
>>> with connect("tcp://relay-host:7400") as mesh:           # doctest: +SKIP
...     for event in mesh.subscribe("transients", start="latest"):
...         print(event.time, event.ra_deg, event.dec_deg, event.kind, event.significance)
"""

from __future__ import annotations

from pathlib import Path

from trapline.client.asynchronous import AsyncMesh
from trapline.client.blocking import Mesh
from trapline.common.channel import Connection, Gap, RelayConnection, RelayRefusedError, RelayUnreachableError
from trapline.common.channel.event import Event
from trapline.common.channel.joining import connect_to, join
from trapline.common.channel.subscription import UnknownChannelError
from trapline.common.config.mesh import load_config
from trapline.common.relay.process import relay_address
from trapline.common.security.identity import given_keys
from trapline.common.store.opening import open_store
from trapline.schemas.columns import NewerSchemaError

__all__ = [
    "AsyncMesh",
    "Event",
    "Gap",
    "Mesh",
    "NewerSchemaError",
    "RelayRefusedError",
    "RelayUnreachableError",
    "UnknownChannelError",
    "connect",
    "connect_async",
    "open_store",
]


def connect(address: str | None = None, *, key: str | Path | None = None, identity: str | Path | None = None) -> Mesh:
    """Return a connection for ``with``, to a relay or to the mesh of the configuration in this directory.

    Parameters
    ----------
    address
        Of a relay: ``tcp://host:port``.
    key
        Public key of a relay that wants keys, or the file with it; by default what ``[security] relays`` of the
        configuration says of the address.
    identity
        File with the own key pair, made by ``trapline keys new``; by default that of ``[security] identity``.

    Raises
    ------
    ConfigError
        When a key or the configuration cannot be used.
    """
    return Mesh(_connection(address, key, identity))


def connect_async(
    address: str | None = None, *, key: str | Path | None = None, identity: str | Path | None = None
) -> AsyncMesh:
    """Return a connection for ``async with``; see `connect`."""
    return AsyncMesh(_connection(address, key, identity))


def _connection(address: str | None, key: str | Path | None, identity: str | Path | None) -> Connection:
    if address and key:
        return RelayConnection(address, given_keys(key, identity))
    config = load_config()
    return connect_to(config, address) if address else join(config, home=relay_address(config))
