"""LSST's `lsst-dax-apdb` as an opponent: an environment of its own, and the program that runs in it."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness import InvalidRunError

PACKAGES = ("lsst-dax-apdb==30.2026.4100", "psycopg2-binary")
"""what is installed: never into our environment, and not in our lock file"""

_PROGRAM = Path(__file__).with_name("lsst_apdb.py")
_INSTALL_S = 600.0


def opponent_python(directory: Path = Path(sys.prefix) / "opponents") -> Path:
    """Return the Python of an environment with their package; make it the first time, which takes half a minute.

    Raises
    ------
    InvalidRunError
        When it cannot be installed.
    """
    place = directory / PACKAGES[0].replace("==", "-")
    python, ready = place / "bin" / "python", place / "ready"
    if ready.exists():
        return python
    sys.stderr.write(f"  installing {' and '.join(PACKAGES)} into {place}\n")
    venv.create(place, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise InvalidRunError(f"{PACKAGES[0]} could not be installed within {_INSTALL_S:g} s") from None
    if done.returncode:
        wrong = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InvalidRunError(f"{PACKAGES[0]} cannot be installed: {wrong[-1] if wrong else 'pip failed'}")
    ready.touch()
    return python


class Opponent:
    """Their program with a database of its own; it does one visit after the other."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def visit(self, number: int, t_us: int, rows: Path, patience_s: float = 600.0) -> dict[str, Any]:
        """Let it do a visit; return the seconds of its steps, and how much it read."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"visit": number, "t_us": t_us, "path": str(rows)}) + "\n")
        self._process.stdin.flush()
        return self.hear(patience_s)

    def hear(self, patience_s: float) -> dict[str, Any]:
        """Return what it says.

        Raises
        ------
        InvalidRunError
            When it says nothing for too long, or has ended.
        """
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(patience_s) else None
        if not line:
            last = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()][-1:]
            why = f"said nothing for {patience_s:g} s" if line is None else f"ended: {' '.join(last)}"
            raise InvalidRunError(f"{_PROGRAM.name} {why}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def opponent(python: Path, dsn: str, field: tuple[float, float, float], directory: Path) -> Iterator[Opponent]:
    """Run their program on an empty database while the block lasts; `field` is a circle (ra, dec, radius), degrees."""
    url = dsn.replace("postgresql://", "postgresql+psycopg2://", 1)
    log = directory / "lsst.log"
    command = [str(python), "-P", str(_PROGRAM), url, *map(str, field)]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=directory
        ) as process,
    ):
        try:
            found = Opponent(process, log)
            found.hear(60.0)
            yield found
        finally:
            process.kill()
