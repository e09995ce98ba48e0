"""Which FITS files a finite input is made of, and in which order."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from trapline.image_ingest.cards import Cards, quiet
from trapline.image_ingest.fitsfile import UnreadableError, read_headers
from trapline.image_ingest.instruments import Settings
from trapline.image_ingest.timing import read_timing

SUFFIXES = (".fits", ".fit", ".fts")
COMPRESSED = ("", ".gz", ".fz")


class NoInputError(ValueError):
    """A path that names no FITS file. The text names the path and what would be right."""


def is_fits_name(path: Path) -> bool:
    """Return whether a file is FITS by its name: .fits, .fit or .fts, perhaps with .gz or .fz, and not hidden."""
    name = path.name.lower()
    return not name.startswith(".") and name.endswith(tuple(s + c for s in SUFFIXES for c in COMPRESSED))


def find_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return the FITS files that files, directories and globs name, each once, sorted by path.

    A file that is named is taken whatever its suffix; of a directory those with a suffix of FITS, not of directories in
    it (the glob ``**`` reaches those).

    Raises
    ------
    NoInputError
        When one of the paths does not exist, or names no FITS file.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(str(path)):
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def _files_of(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        inside = [file for file in path.iterdir() if file.is_file() and is_fits_name(file)]
        if not inside:
            raise NoInputError(f"{text}: no FITS files in this directory; expected names as {', '.join(_EXAMPLES)}")
        return inside
    if path.exists():
        return [path]
    if not glob.has_magic(text):
        raise NoInputError(f"{text}: no such file or directory")
    # A pattern may be absolute or relative: pathlib's glob wants to know its directory first.
    matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207
    files = [match for match in matches if match.is_file() and is_fits_name(match)]
    if not files:
        raise NoInputError(f"{text}: this pattern matches no FITS file; expected names as {', '.join(_EXAMPLES)}")
    return files


def start_us(path: Path, settings: Settings) -> int:
    """Return the earliest observation start in a file, from its headers alone; 0 when it has none or is unreadable."""
    try:
        with quiet():
            starts = [_start_us(Cards(header), settings) for header in read_headers(path)]
    except UnreadableError:
        return 0
    return min((start for start in starts if start is not None), default=0)


def in_order(files: Sequence[Path], settings: Settings) -> list[Path]:
    """Return the files by observation start, then path: the order in which a finite input is read.

    Files without a readable start come first; they will be rejected when they are read.
    """
    return [file for _, file in sorted((start_us(file, settings), file) for file in files)]


def _start_us(cards: Cards, settings: Settings) -> int | None:
    start = read_timing(cards, settings.recognise(cards)).start
    return start.value if start is not None else None


_EXAMPLES = ("image.fits", "image.fit", "image.fts", "image.fits.gz", "image.fits.fz")
