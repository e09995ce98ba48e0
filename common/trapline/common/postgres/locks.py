"""Locks on files, which the kernel gives back when a process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.places import not_ours
from trapline.common.postgres.postmaster import wait_until


def take_lock(path: Path, timeout_s: float, *, shared: bool = False) -> int:
    """Return the descriptor of a file that is locked until it is closed.

    Raises
    ------
    DatabaseError
        When the file cannot be made, or another process holds the lock for too long.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise not_ours(path.parent, error) from None
    if wait_until(lambda: try_lock(descriptor, shared=shared), timeout_s):
        return descriptor
    os.close(descriptor)
    raise DatabaseError(f"another process has been starting or stopping the server in {path.parent} for too long")


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file, or change the lock on it; False, and no lock at all, when others are in the way."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
