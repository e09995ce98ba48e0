"""Whom the embedded server runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.common.postgres.errors import DatabaseError

_UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def is_self(self) -> bool:
        """True when this process already runs as it."""
        return self.uid == os.geteuid()

    def identity(self) -> dict[str, Any]:
        """Return the arguments that make `subprocess` start a program as this user, away from our directory."""
        # A stranger's PGDATA or PGPORT must not reach the server, nor a working directory that the user cannot enter.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C", "TZ": "UTC"}
        common: dict[str, Any] = {"cwd": "/", "env": environment}
        return common if self.is_self else common | {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(
        self, arguments: Sequence[str | Path], timeout_s: float = 60.0, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, give it a text to read, and return what it said.

        Raises
        ------
        DatabaseError
            When it cannot be started as this user, or does not end.
        """
        try:
            return subprocess.run(
                [str(a) for a in arguments],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
                **self.identity(),
            )
        except subprocess.TimeoutExpired:
            raise DatabaseError(f"{arguments[0]} did not end within {timeout_s:g} s") from None
        except OSError as error:
            raise DatabaseError(f"cannot run {arguments[0]} as user {self.name}: {error}") from None

    def launch(self, arguments: Sequence[str], log: int) -> subprocess.Popen[Any]:
        """Start a program as this user, with both outputs into an open file, and return without waiting.

        Raises
        ------
        DatabaseError
            When it cannot be started as this user.
        """
        try:
            # A session of its own: Ctrl-C at the terminal is for the supervisor, who stops the store last.
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.identity(),
            )
        except OSError as error:
            raise DatabaseError(f"cannot run {arguments[0]} as user {self.name}: {error}") from None

    def may_enter(self, directory: Path) -> bool:
        """Tell whether this user reaches a directory: asked of the kernel, as that user."""
        return self.run(["/bin/sh", "-c", 'test -x "$1"', "sh", directory]).returncode == 0

    def own(self, directory: Path) -> None:
        """Make a directory that is this user's alone."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.is_self:
            os.chown(directory, self.uid, self.gid, follow_symlinks=False)
        directory.chmod(0o700)


def server_account(data: Path) -> Account:
    """Return who shall run the server of a data directory, which need not exist.

    That is ourselves, unless we are root: then the owner of the data directory, or `postgres`, or `nobody`.

    Raises
    ------
    DatabaseError
        When we are root and there is no such user.
    """
    if os.geteuid() != 0:
        return _by_uid(os.geteuid())
    if data.exists() and (owner := data.stat().st_uid):
        return _by_uid(owner)
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise DatabaseError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)} to run it as: "
        "start as another user, or set database.dsn"
    )


def _by_uid(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # containers run as numbers without a name
        return Account(str(uid), uid, os.getegid() if uid == os.geteuid() else uid)
    return Account(entry.pw_name, uid, entry.pw_gid)
