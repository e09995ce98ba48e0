"""Key files: a secret that stays on its host, and a public key that travels as a small text file."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import zmq
from zmq.utils import z85

from trapline.common.config.errors import ConfigError
from trapline.common.security.pair import KeyPair

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LENGTH = 40  # characters of Z85 for 32 bytes


class PublicKey(NamedTuple):
    """A public key, as Z85 text, and what it is called."""

    name: str
    public: str


def check_name(name: str) -> str:
    """Return a name for a key, or raise `ConfigError` when it is none."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a key: letters, digits, '_', '.' and '-', at most 64")
    return name


def check_public(text: str) -> str:
    """Return a public key, or raise `ConfigError` when it is none."""
    try:
        if len(text) == _LENGTH and len(z85.decode(text.encode("ascii"))) == _LENGTH * 4 // 5:
            return text
    except (ValueError, KeyError, UnicodeEncodeError):
        pass
    raise ConfigError(f"{text!r} is no public key: it has {_LENGTH} characters, as `trapline keys new` shows it")


def new_key_pair(directory: Path, name: str) -> tuple[KeyPair, Path]:
    """Make a key pair in a directory, and return it with the path of its public file.

    Raises
    ------
    ConfigError
        When there is one of this name: it is never overwritten.
    """
    path, public_path = directory / f"{check_name(name)}.key", directory / f"{name}.pub"
    if existing := [p for p in (path, public_path) if p.exists()]:
        raise ConfigError(f"there is {existing[0]} already; choose another name, or remove it if no relay trusts it")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    public, secret = (key.decode() for key in zmq.curve_keypair())
    named = f'name = "{name}"\npublic = "{public}"\n'
    _write(path, f'# SECRET: stays on this host.\n{named}secret = "{secret}"\n', 0o600)
    _write(public_path, f"# Public key: give it to those who shall trust it.\n{named}", 0o644)
    return KeyPair(name, public, secret), public_path


def _write(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def load_key_pair(path: Path) -> KeyPair:
    """Return the key pair of a file that only its owner can read.

    Raises
    ------
    ConfigError
        When it is missing, open to others, or no key file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigError(f"no key {path}: {error.strerror}; `trapline keys new {path.stem}` makes one") from None
    if status.st_mode & 0o077:
        raise ConfigError(f"the secret key {path} is open to others: chmod 600 {path}")
    name, public, values = _load(path)
    secret = str(values.get("secret", ""))
    try:
        fits = zmq.curve_public(secret.encode()).decode() == public
    except (ValueError, KeyError, zmq.ZMQError):
        fits = False
    if not fits:
        raise ConfigError(f"{path}: the secret does not belong to the public key")
    return KeyPair(name, public, secret)


def load_public(path: Path) -> PublicKey:
    """Return the public key of a file; `ConfigError` when it is missing or none."""
    name, public, _ = _load(path)
    return PublicKey(name, public)


def _load(path: Path) -> tuple[str, str, dict[str, object]]:
    values = load_table(path)
    try:
        return check_name(str(values.get("name", path.stem))), check_public(str(values.get("public", ""))), values
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def load_table(path: Path) -> dict[str, object]:
    """Return what a small TOML file says; `ConfigError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # no TOML, or no text
        raise ConfigError(f"{path} is no key file: {error}") from None


def find_public(text: str, directory: Path | None = None) -> PublicKey:
    """Return the public key that a text is, or names: a key, a file, or NAME for ``NAME.pub`` in a directory.

    Raises
    ------
    ConfigError
        When it is none of these.
    """
    if len(text) == _LENGTH and not Path(text).is_file():
        return PublicKey("", check_public(text))
    paths = [Path(text).expanduser(), *([directory / f"{text}.pub"] if directory else [])]
    for path in paths:
        if path.is_file():
            return load_public(path)
    raise ConfigError(
        f"{text!r} is no public key of {_LENGTH} characters, and there is no file {' or '.join(map(str, paths))}"
    )
