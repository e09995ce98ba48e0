"""Which keys a relay trusts, and with what: one small file a key, read again whenever one changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import structlog

from trapline.common.config.errors import ConfigError
from trapline.common.security.keys import check_name, check_public, load_table

EVERY = "*"
_log = structlog.get_logger()


class Rights(NamedTuple):
    """What a key may do: names of channels that it reads and publishes, and of groups and readers that it may be."""

    name: str
    public: str
    read: frozenset[str] = frozenset({EVERY})
    publish: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def may_read(self, channel: str) -> bool:
        """Return whether it may see a channel."""
        return not self.read.isdisjoint((EVERY, channel))

    def may_publish(self, channel: str) -> bool:
        """Return whether it may append to a channel."""
        return not self.publish.isdisjoint((EVERY, channel))

    def may_be(self, name: str) -> bool:
        """Return whether it may be a group or a named reader: its own name, ``NAME-...``, or an allowed one."""
        return any(own in (name, EVERY) or name.startswith(f"{own}-") for own in (self.name, *self.groups))


class TrustList:
    """The files ``NAME.toml`` of a directory. Changes hold from the next `refresh` on, for connected peers as well.

    Used by several threads: what `keys` returns is never changed, only replaced.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._seen: frozenset[tuple[str, int, int, int]] | None = None
        self.keys: Mapping[str, Rights] = {}
        """by public key"""
        self.refresh()

    def refresh(self) -> None:
        """Read the files if one of them changed. A file that is wrong is told in the log, and trusts nobody."""
        with self._lock:
            seen = frozenset(_status(path) for path in self._paths())
            if seen != self._seen:
                self.keys = MappingProxyType({rights.public: rights for rights in self._read()})
                self._seen = seen

    def _paths(self) -> list[Path]:
        try:
            return trust_files(self.directory)
        except OSError:
            # The directory is closed to us: nobody is trusted.
            return []

    def _read(self) -> Iterable[Rights]:
        for path in self._paths():
            try:
                yield load_rights(path)
            except ConfigError as error:
                _log.error("a key is not trusted: its file is wrong", reason=str(error))


def trust_files(directory: Path) -> list[Path]:
    """Return the files of a directory that say whom to trust, by name; none when there is no directory."""
    return sorted(path for path in directory.iterdir() if path.suffix == ".toml") if directory.is_dir() else []


def _status(path: Path) -> tuple[str, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return path.name, 0, 0, 0
    return path.name, status.st_ino, status.st_size, status.st_mtime_ns


def load_rights(path: Path) -> Rights:
    """Return what a file of trust says.

    Raises
    ------
    ConfigError
        When it is wrong in any way, or others than its owner can write it.
    """
    values = load_table(path)
    if _mode(path) & 0o022:
        raise ConfigError(f"{path} can be written by others: chmod 644 {path}")
    unknown = values.keys() - set(Rights._fields)
    if unknown:
        raise ConfigError(f"{path}: unknown key {', '.join(sorted(unknown))}; allowed are {', '.join(Rights._fields)}")
    try:
        lists = {key: _names(key, values[key]) for key in ("read", "publish", "groups") if key in values}
        name = check_name(str(values.get("name", path.stem)))
        return Rights(name, check_public(str(values.get("public", ""))), **lists)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _names(key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{key} = {value!r}: expected a list of names")
    return frozenset(name if name == EVERY else check_name(name) for name in value)


def trust(directory: Path, rights: Rights) -> Path:
    """Trust a key from now on, and return the file that says so. A name that is trusted gets these rights instead.

    Raises
    ------
    ConfigError
        When the name is trusted with another key, or the key under another name, or another file is wrong.
    """
    check_name(rights.name)
    for key in ("read", "publish", "groups"):
        _names(key, list(getattr(rights, key)))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for known in map(load_rights, trust_files(directory)):
        if (known.name == rights.name) != (known.public == rights.public):
            raise ConfigError(
                f"{known.name} is trusted already, with the key {known.public}; "
                f"`trapline keys revoke {known.name}` first"
            )
    lists = "".join(f"{key} = [{_quoted(getattr(rights, key))}]\n" for key in ("read", "publish", "groups"))
    path, new = directory / f"{rights.name}.toml", directory / f".{rights.name}.{os.getpid()}"
    new.write_text(f'name = "{rights.name}"\npublic = "{rights.public}"\n{lists}', encoding="ascii")
    new.chmod(0o644)
    new.replace(path)
    return path


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def revoke(directory: Path, name: str) -> None:
    """Trust a key no more; `ConfigError` when nobody of this name is trusted."""
    try:
        (directory / f"{check_name(name)}.toml").unlink()
    except FileNotFoundError:
        names = ", ".join(path.stem for path in trust_files(directory))
        raise ConfigError(f"{name} is not trusted; trusted are {names or 'no keys'}") from None
