"""The data directory of an embedded server: which version made it, and how one is made."""

from __future__ import annotations

import shutil
from pathlib import Path

from trapline.common.postgres.account import Account
from trapline.common.postgres.binaries import Binaries
from trapline.common.postgres.errors import DatabaseError

USER = "trapline"
"""owner of an embedded server, and name of its database"""

_OPTIONS = (
    f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions",
)  # fmt: skip


def major_of(data: Path) -> int | None:
    """Return the major version that made a data directory; None when there is none.

    Raises
    ------
    DatabaseError
        When it is someone else's.
    """
    try:
        text = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise DatabaseError(
            f"the server's files in {data} are another user's: be that user, or set database.dsn to their server"
        ) from None
    return int(text) if text.isdecimal() else None


def create_files(data: Path, binaries: Binaries, account: Account, timeout_s: float, *, durable: bool = True) -> None:
    """Make a data directory with one empty database. It is there whole, or not at all; after a power cut if `durable`.

    Raises
    ------
    DatabaseError
        With what `initdb` had to say.
    """
    draft = data.with_name(f"{data.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    account.own(draft)
    options = _OPTIONS if durable else (*_OPTIONS, "--no-sync")
    made = account.run([binaries.program("initdb"), *options, "--pgdata", draft], timeout_s)
    if made.returncode == 0:
        # The server's own single-user mode: no socket, no client, and nothing to undo when it fails.
        single: list[str | Path] = [binaries.program("postgres"), "--single", "-D", draft]
        single += [*(() if durable else ("-c", "fsync=off")), "postgres"]
        made = account.run(single, timeout_s, f"CREATE DATABASE {USER}\n")
    if made.returncode or "ERROR" in made.stderr:
        shutil.rmtree(draft, ignore_errors=True)
        raise DatabaseError(f"cannot create a server's files in {data}: {made.stderr.strip()}")
    draft.rename(data)
