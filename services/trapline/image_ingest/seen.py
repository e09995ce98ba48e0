"""Which files of watched directories were read, remembered over restarts."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, Self

_SPARE_LINES = 1000
_BEGUN = "begun"


class Stamp(NamedTuple):
    """What tells a file from a later one of the same name."""

    size: int
    mtime_ns: int


class SeenFiles:
    """A file to which a line is added per file that was read: its path, size and time of change.

    A line is added as well when the reading begins, so that a file that kills its reader is known after some deaths. A
    line that was cut short by a crash is left out: that file is read again, and its images, which have the ids that
    they had, are not appended twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Stamp] = {}
        self._begun: Counter[tuple[str, Stamp]] = Counter()
        self._lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load()
        self._rewrite()
        self._file = path.open("a", encoding="utf-8")

    def __contains__(self, file: tuple[Path, Stamp]) -> bool:
        path, stamp = file
        return self._known.get(str(path)) == stamp

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, path: Path, stamp: Stamp) -> int:
        """Remember that the reading of a file begins, and return how often it had begun before and not ended."""
        before = self._begun[str(path), stamp]
        self._begun[str(path), stamp] += 1
        self._append(_line(str(path), stamp, _BEGUN))
        return before

    def add(self, path: Path, stamp: Stamp) -> None:
        """Remember that a file was read."""
        self._known[str(path)] = stamp
        self._begun.pop((str(path), stamp), None)
        self._append(_line(str(path), stamp))

    def _append(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()
        self._lines += 1

    def forget_all_but(self, present: Collection[Path]) -> None:
        """Forget files that are there no more, now and then, so that a directory that is emptied costs no memory."""
        if self._lines <= 2 * len(present) + _SPARE_LINES:
            return
        names = {str(path) for path in present}
        self._known = {path: stamp for path, stamp in self._known.items() if path in names}
        self._begun = Counter({key: count for key, count in self._begun.items() if key[0] in names})
        self._file.close()
        self._rewrite()
        self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self) -> None:
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    path, size, mtime_ns, *begun = json.loads(line)
                    stamp = Stamp(int(size), int(mtime_ns))
                except (ValueError, TypeError):
                    continue
                if begun:
                    self._begun[str(path), stamp] += 1
                else:
                    self._known[str(path)] = stamp
                    self._begun.pop((str(path), stamp), None)

    def _rewrite(self) -> None:
        """Write what is known to a new file, and put it in the place of the old one."""
        new = self._path.with_name(f"{self._path.name}.new")
        with new.open("w", encoding="utf-8") as file:
            file.writelines(_line(path, stamp) for path, stamp in self._known.items())
            file.writelines(_line(path, stamp, _BEGUN) for path, stamp in self._begun.elements())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        self._lines = len(self._known)


def _line(path: str, stamp: Stamp, *more: str) -> str:
    return json.dumps([path, *stamp, *more]) + "\n"
