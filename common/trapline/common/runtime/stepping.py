"""Which input a fold has in hand, on disk: so that an input that kills it again and again is found out.

The note is in a mapped page: it costs no system call, and outlives `kill -9`, though not a power cut, after which it is
missing or old and only counts one death less or more.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Self

from trapline.schemas.header import Place

_SIZE = 4096
_HEAD = struct.Struct("<BIHH")  # in hand, deaths, bytes of the place in hand, bytes of the suspect
_MOST_DEATHS = 1 << 20
_TEXT = 1900  # bytes kept of a place


class SteppingNote:
    """Notes the input that is being taken, and counts the deaths of whoever took it.

    Parameters
    ----------
    path
        The file; made when missing. Opening it counts a death against the input that was in hand.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            os.truncate(file.fileno(), _SIZE)
            # A full disk is an error here, and not the end of the process at the first note.
            os.posix_fallocate(file.fileno(), 0, _SIZE)
            self._page = mmap.mmap(file.fileno(), _SIZE)
        in_hand, deaths, n_place, n_suspect = _HEAD.unpack_from(self._page)
        place, self._suspect = self._text(0, n_place), self._text(1, n_suspect)
        if in_hand:
            deaths = deaths + 1 if place == self._suspect else 1
            self._suspect = place
        self._deaths = min(deaths, _MOST_DEATHS)
        self._write(b"", in_hand=False)

    def deaths(self, place: Place) -> int:
        """Return how often in a row a process died with this input in hand."""
        return self._deaths if _key(place) == self._suspect else 0

    def begin(self, place: Place) -> None:
        """Note that an input is being taken."""
        self._write(_key(place), in_hand=True)

    def end(self) -> None:
        """Note that it was taken."""
        if self._suspect and self._text(0, _HEAD.unpack_from(self._page)[2]) == self._suspect:
            self._suspect, self._deaths = b"", 0
        self._write(b"", in_hand=False)

    def close(self) -> None:
        """Let go of the file."""
        self._page.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, place: bytes, *, in_hand: bool) -> None:
        # The flag last: a death in between leaves what was there before.
        self._page[0] = 0
        start = _HEAD.size
        self._page[start : start + len(place)] = place
        self._page[start + _TEXT : start + _TEXT + len(self._suspect)] = self._suspect
        _HEAD.pack_into(self._page, 0, 0, self._deaths, len(place), len(self._suspect))
        self._page[0] = int(in_hand)

    def _text(self, number: int, length: int) -> bytes:
        start = _HEAD.size + number * _TEXT
        return bytes(self._page[start : start + min(length, _TEXT)])


def _key(place: Place) -> bytes:
    return str(place).encode()[:_TEXT]
