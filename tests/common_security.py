"""Relays that want keys, and clients that have some."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trapline.common.channel import RelayConnection
from trapline.common.security.keys import new_key_pair
from trapline.common.security.pair import ClientKeys, KeyPair
from trapline.common.security.trust import Rights, trust
from trapline.common.testing.relay import mesh_config


class Secured(NamedTuple):
    """The configuration of a relay that wants keys from everyone who comes through TCP, and its own key pair."""

    config: object
    relay: KeyPair
    directory: Path

    def trust(self, pair: KeyPair, **rights) -> Path:
        named = {key: frozenset(names) for key, names in rights.items()}
        return trust(self.config.keys_directory / "trusted", Rights(pair.name, pair.public, **named))

    def stranger(self, name: str) -> KeyPair:
        return new_key_pair(self.directory / "elsewhere", name)[0]

    def friend(self, name: str, **rights) -> KeyPair:
        pair = self.stranger(name)
        self.trust(pair, **rights)
        return pair

    def connection(self, address: str, own: KeyPair, relay: str | None = None) -> RelayConnection:
        return RelayConnection(address, ClientKeys(own, relay or self.relay.public))


def secured(directory: Path, **tables) -> Secured:
    config = mesh_config(directory, security={"identity": "host-a", "loopback_needs_keys": True}, **tables)
    pair, _ = new_key_pair(config.keys_directory, "host-a")
    return Secured(config, pair, directory)
