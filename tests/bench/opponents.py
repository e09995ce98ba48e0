"""Other people's programs to be compared with: each in an environment of its own, a line of JSON for a line of JSON."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness import InvalidRunError

OPPONENTS = Path(sys.prefix) / "opponents"
"""where their environments are: never ours, and not in our lock file"""

_INSTALL_S = 600.0
_START_S = 300.0  # some compile what they need when they are imported


def opponent_python(packages: Sequence[str], directory: Path = OPPONENTS) -> Path:
    """Return the Python of an environment with packages, named by the first; make it the first time: a minute or two.

    Raises
    ------
    InvalidRunError
        When it cannot be installed.
    """
    place = _place(packages, directory)
    python = place / "bin" / "python"
    if (place / "ready").exists():
        return python
    sys.stderr.write(f"  installing {' and '.join(packages)} into {place}\n")
    venv.create(place, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise InvalidRunError(f"{packages[0]} could not be installed within {_INSTALL_S:g} s") from None
    if done.returncode:
        wrong = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InvalidRunError(f"{packages[0]} cannot be installed: {wrong[-1] if wrong else 'pip failed'}")
    (place / "ready").touch()
    return python


def _place(packages: Sequence[str], directory: Path) -> Path:
    return directory / packages[0].replace("==", "-")


class Opponent:
    """Their program; it does one thing after the other."""

    def __init__(self, process: subprocess.Popen[str], name: str, log: Path) -> None:
        self._process, self._name, self._log = process, name, log

    def ask(self, patience_s: float = 600.0, **question: Any) -> dict[str, Any]:
        """Send a question and return the answer; errors as `hear`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
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
            raise InvalidRunError(f"{self._name} {why}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def opponent(python: Path, program: Path, arguments: Sequence[str], directory: Path) -> Iterator[Opponent]:
    """Run a program of ours in their environment while the block lasts; it begins by saying something.

    Parameters
    ----------
    python
        That of their environment.
    program
        Reads questions, and writes answers.
    arguments
        Its command line.
    directory
        Where it runs, and writes what else it says.
    """
    log = directory / f"{program.stem}.log"
    command = [str(python), "-P", str(program), *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=directory
        ) as process,
    ):
        try:
            found = Opponent(process, program.name, log)
            found.hear(_START_S)
            yield found
        finally:
            process.kill()
