"""Where the files and the socket of an embedded server may be."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trapline.common.postgres.account import Account
from trapline.common.postgres.binaries import ROOT_HOME
from trapline.common.postgres.errors import DatabaseError

_MAX_SOCKET_PATH = 107  # bytes; the kernel's limit
_SOCKET_NAME = ".s.PGSQL.5432"
# Clients take a comma for a list of hosts, and the server has its own quoting: keep to what means itself everywhere.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server's files are, and why they are not where they were asked for."""

    directory: Path
    note: str | None = None


def server_place(wanted: Path, account: Account) -> Place:
    """Return the directory for a server's files; it exists afterwards.

    That is the wanted one, unless the server runs as a user who cannot reach it (below `/root`, say): then a directory
    of `ROOT_HOME` that is named after the wanted one.

    Raises
    ------
    DatabaseError
        When it cannot be made.
    """
    wanted = wanted.expanduser().absolute()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_ours(wanted, error) from None
    if account.is_self or account.may_enter(wanted):
        return Place(wanted)
    moved = ROOT_HOME / f"{wanted.name}-{_short_hash(wanted)}"
    ROOT_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    moved.mkdir(mode=0o755, exist_ok=True)
    return Place(
        moved, f"user {account.name}, whom the server runs as, cannot reach {wanted}: its files are in {moved}"
    )


def not_ours(directory: Path, error: OSError) -> DatabaseError:
    """Return what to say when a server's files cannot be in a directory."""
    return DatabaseError(
        f"a server's files cannot be in {directory} ({error.strerror}): set database.directory to a directory that "
        "you may write, or database.dsn to a server that runs"
    )


def socket_directory(directory: Path) -> Path:
    """Return where the socket of a server goes: beside its files, or, where that is too long, with the temporary files.

    The answer depends on the path only, so that addresses survive a restart.
    """
    near = directory / "socket"
    length = len(os.fsencode(near / _SOCKET_NAME))
    if length <= _MAX_SOCKET_PATH and _PLAIN_PATH.fullmatch(str(near)):
        return near
    return Path(tempfile.gettempdir()) / f"trapline-{_short_hash(directory)}"


def make_socket_directory(path: Path, account: Account) -> None:
    """Make the directory of the socket, open to one account only and without what a dead server left in it.

    Raises
    ------
    DatabaseError
        When something of that name is there which is not that account's alone.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (account.uid, os.geteuid()):
            raise DatabaseError(
                f"{path} should be a directory of user {account.name} for the server's socket, and is someone else's: "
                "remove it, or set TMPDIR to a private directory"
            ) from None
    account.own(path)
    for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
        (path / name).unlink(missing_ok=True)


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
