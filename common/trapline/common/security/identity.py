"""The keys that a configuration names: this host's own, and those of the relays it connects to."""

from __future__ import annotations

from pathlib import Path

from trapline.common.config.errors import ConfigError
from trapline.common.config.mesh import MeshConfig, load_config
from trapline.common.security.keys import find_public, load_key_pair
from trapline.common.security.pair import ClientKeys, KeyPair


def load_identity(config: MeshConfig) -> KeyPair:
    """Return the key pair of this host.

    Raises
    ------
    ConfigError
        When ``[security] identity`` names none, or its file is not as it should be.
    """
    name = config.security.identity
    if not name:
        raise ConfigError('no key: set [security] identity = "NAME", and make it with `trapline keys new NAME`')
    return load_key_pair(config.keys_directory / f"{name}.key")


def client_keys(config: MeshConfig, address: str) -> ClientKeys | None:
    """Return the keys with which to connect to a relay; None when the configuration has none for its address.

    Raises
    ------
    ConfigError
        When a key that it names cannot be used.
    """
    pinned = config.security.relays.get(address)
    if pinned is None:
        return None
    return ClientKeys(load_identity(config), find_public(pinned, config.keys_directory).public)


def given_keys(key: str | Path, identity: str | Path | None) -> ClientKeys:
    """Return keys that a program gives itself: the relay's, as text or file, and a file with its own pair.

    Raises
    ------
    ConfigError
        When one of them cannot be used.
    """
    own = load_key_pair(Path(identity).expanduser()) if identity else load_identity(load_config())
    return ClientKeys(own, find_public(str(key)).public)
