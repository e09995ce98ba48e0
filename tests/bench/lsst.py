"""LSST's `lsst-dax-apdb` as an opponent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import opponents

PACKAGES = ("lsst-dax-apdb==30.2026.4100", "psycopg2-binary")

_PROGRAM = Path(__file__).with_name("lsst_apdb.py")


class Opponent:
    """Their program with a database of its own."""

    def __init__(self, program: opponents.Opponent) -> None:
        self._program = program

    def visit(self, number: int, t_us: int, rows: Path) -> dict[str, Any]:
        """Let it do a visit; return the seconds of its steps, and how much it read."""
        return self._program.ask(visit=number, t_us=t_us, path=str(rows))


@contextmanager
def opponent(python: Path, dsn: str, field: tuple[float, float, float], directory: Path) -> Iterator[Opponent]:
    """Run their program on an empty database while the block lasts; `field` is a circle (ra, dec, radius), degrees."""
    url = dsn.replace("postgresql://", "postgresql+psycopg2://", 1)
    with opponents.opponent(python, _PROGRAM, [url, *map(str, field)], directory) as program:
        yield Opponent(program)
