"""Directories in which files appear: which of them are new, and complete.

They are looked at again and again: that works on every file system, also where the kernel tells nobody of changes that
another host made.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from trapline.image_ingest.files import is_fits_name
from trapline.image_ingest.seen import SeenFiles, Stamp


class FileFound(NamedTuple):
    """A new file, complete as far as one can tell."""

    path: Path
    stamp: Stamp


@dataclass(slots=True)
class Watch:
    """One watched directory, or glob of directories or files.

    Parameters
    ----------
    pattern
        Directory or glob. What does not exist yet is waited for.
    settle_s
        A file is complete when its size and its time of change have not changed for so long. One that was moved into
        the directory is complete at once, and only waits as well.
    seen
        What was read before, also before a restart.
    """

    pattern: str
    settle_s: float
    seen: SeenFiles
    waiting: dict[Path, tuple[Stamp, float]] = field(default_factory=dict[Path, tuple[Stamp, float]])
    """files that may still grow, and since when they have not"""
    present: set[Path] = field(default_factory=set[Path])
    """files that were there when it was looked at last"""
    failing: bool = False
    """the directory could not be looked at"""
    _taken: dict[Path, Stamp] = field(default_factory=dict[Path, Stamp])

    def look(self, now_s: float, say: Callable[[str], None] = lambda _: None) -> list[FileFound]:
        """Return the files that are complete and were not read before, by path.

        A file that was read and then changed is found again: it may have been taken for complete too early.
        """
        try:
            files = dict(_files(Path(self.pattern).expanduser()))
        except OSError as error:
            if not self.failing:
                say(f"{self.pattern}: cannot look: {error.strerror or error}")
            self.failing = True
            return []
        self.failing, self.present = False, set(files)
        fresh = {
            path: stamp
            for path, stamp in files.items()
            if (path, stamp) not in self.seen and self._taken.get(path) != stamp
        }
        self.waiting = {path: (stamp, self._since(path, stamp, now_s)) for path, stamp in fresh.items()}
        ready = sorted(path for path, (_, since_s) in self.waiting.items() if now_s - since_s >= self.settle_s)
        return [FileFound(path, fresh[path]) for path in ready]

    def take(self, file: FileFound) -> int:
        """Take note that a file is being read, so that it is not found again meanwhile; return earlier tries.

        They are those that did not end, because the process died.
        """
        self._taken[file.path] = file.stamp
        return self.seen.begin(file.path, file.stamp)

    def done(self, file: FileFound) -> None:
        """Remember that a file was read, and all of it is in the journal."""
        self.seen.add(file.path, file.stamp)
        if self._taken.get(file.path) == file.stamp:
            del self._taken[file.path]

    def _since(self, path: Path, stamp: Stamp, now_s: float) -> float:
        before = self.waiting.get(path)
        return before[1] if before is not None and before[0] == stamp else now_s


def _files(pattern: Path) -> Iterator[tuple[Path, Stamp]]:
    # A directory's name may hold the characters of a pattern.
    if pattern.is_dir() or not glob.has_magic(str(pattern)):
        yield from _inside(pattern)
        return
    for name in glob.iglob(str(pattern), recursive=True):  # noqa: PTH207  may be absolute or relative
        match = Path(name)
        if match.is_dir():
            yield from _inside(match)
        elif is_fits_name(match):
            yield from _stamped(match)


def _inside(directory: Path) -> Iterator[tuple[Path, Stamp]]:
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if is_fits_name(path := Path(entry.path)):
                yield from _stamped(path)


def _stamped(path: Path) -> Iterator[tuple[Path, Stamp]]:
    try:
        found = path.stat()
    except OSError:
        # Removed since it was listed, or a link to nothing.
        return
    if path.is_file():
        yield path.absolute(), Stamp(found.st_size, found.st_mtime_ns)
