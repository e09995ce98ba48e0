"""The table `[security]` of `mesh.toml`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field

from trapline.common.config.section import Section


class SecurityConfig(Section):
    """Keys of this host, and of the relays that programs on it connect to."""

    keys_directory: Path | None = Field(
        default=None, description="where `trapline keys` keeps key files; by default `keys` in the data directory"
    )
    identity: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$",
        description="name of this host's own key pair; needed to listen beyond loopback, and to connect to such relays",
    )
    loopback_needs_keys: bool = Field(
        default=False, description="whether also programs of this host need keys to connect through TCP"
    )
    relays: dict[str, str] = Field(
        default={}, description="public key of each relay that needs keys, or the name or file of one, by its address"
    )


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this host only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
