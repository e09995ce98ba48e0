"""Connections as the configuration has them: to this host alone, or to all hosts of a mesh."""

from __future__ import annotations

from trapline.common.channel.connection import RelayConnection
from trapline.common.channel.interface import Connection
from trapline.common.channel.mesh import MeshConnection
from trapline.common.config.mesh import MeshConfig
from trapline.common.security.identity import client_keys


def connect_to(config: MeshConfig, address: str) -> RelayConnection:
    """Return a connection to a relay, with the keys that a configuration has for it.

    Raises
    ------
    ConfigError
        When one of the keys cannot be used.
    """
    return RelayConnection(address, client_keys(config, address))


def join(config: MeshConfig, *, home: str | None = None, alone: bool = False) -> Connection:
    """Return a connection to the mesh that this host belongs to: its own relay, and those that ``[mesh] relays`` names.

    Parameters
    ----------
    config
        Of this host.
    home
        Address of its own relay; by default its socket.
    alone
        Leave out the other hosts.
    """
    own = connect_to(config, home or f"ipc://{config.ipc_path}")
    if alone or not config.mesh.relays:
        return own
    return MeshConnection(own, [connect_to(config, address) for address in config.mesh.relays])
