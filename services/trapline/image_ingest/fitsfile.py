"""FITS files: every image in them, as little-endian float32, plane by plane."""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header as FitsHeader

from trapline.image_ingest.assembly import BLOCK_BYTES
from trapline.image_ingest.cards import noted, one_line, quiet
from trapline.image_ingest.layout import Layout, LayoutError, Pixels, plane_name, planes, read_layout
from trapline.image_ingest.markers import end_of_cards

# Extensions that go with an image and are none: masks, weights, errors (LCO, HST, DECam, Rubin).
NOT_IMAGES = frozenset(
    {"BPM", "DQ", "ERR", "ERROR", "EXP", "FLAG", "FLAGS", "MASK", "RMS", "SIGMA", "UNCERT", "VAR", "VARIANCE", "WEIGHT",
     "WHT"}
)  # fmt: skip
# astropy's remark on a file that ends before what its headers announce.
_LENGTHS = re.compile(r"actual file length \((\d+)\).*expected size \((\d+)\)")
_OWN_TO_EACH = frozenset(
    {"SIMPLE", "XTENSION", "BITPIX", "NAXIS", "EXTEND", "EXTNAME", "PCOUNT", "GCOUNT", "CHECKSUM", "DATASUM", "COMMENT",
     "HISTORY", "", "END", "BSCALE", "BZERO", "BLANK", "INHERIT"}
)  # fmt: skip


MAX_FILE_HEADER_BYTES = 16 << 20
_GZIP_MAGIC = b"\x1f\x8b"


class UnreadableError(ValueError):
    """A file that no image can be read from. The text names the file, what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class FitsImage:
    """One image of a file."""

    header: FitsHeader
    pixels: Pixels | None
    """shape (ny, nx), C order; None when the file holds a header and no image"""
    origin: str
    """path, and where in the file: extension and plane when there are several"""


def read_fits(path: Path | str, *, limit_bytes: int = 512 << 20) -> Iterator[FitsImage]:
    """Yield every image of a file: in any extension, also compressed; a cube gives one image per plane.

    Only one plane is in memory at a time. A file with a header and no image yields that header without pixels, so that
    what it lacks can be named.

    Parameters
    ----------
    path
        The file: FITS, or FITS compressed by gzip or fpack.
    limit_bytes
        Largest size of a plane; more is refused before memory is taken.

    Raises
    ------
    UnreadableError
        When the file is no FITS, is cut short, or a plane is too large.
    """
    with _opened(Path(path)) as file:
        images = [(number, hdu, layout) for number, hdu in enumerate(file.hdus) if (layout := _layout(hdu)) is not None]
        for number, hdu, layout in images:
            size = 4 * layout.plane_pixels
            if size > limit_bytes:
                shape = " x ".join(map(str, layout.shape[-2:]))
                raise UnreadableError(
                    f"{path}: a plane of {shape} pixels takes {size} bytes; allowed are {limit_bytes} (max_image_bytes)"
                )
            for index, header in planes(_with_primary(hdu, file.hdus[0]), layout):
                yield FitsImage(header, file.plane(hdu, index), _origin(path, number, plane_name(index, layout)))
        if not images:
            yield FitsImage(file.header_alone(), None, str(path))


def read_headers(path: Path | str) -> list[FitsHeader]:
    """Return the header of every image of a file without reading pixels; raise `UnreadableError` as `read_fits`."""
    with _opened(Path(path)) as file, quiet():
        return [_with_primary(hdu, file.hdus[0]) for hdu in file.hdus if _layout(hdu) is not None]


@dataclass(slots=True)
class _File:
    path: Path
    hdus: list[Any]
    notes: list[str] = field(default_factory=list[str])
    """what astropy remarked on the structure of the file"""

    def plane(self, hdu: Any, index: tuple[int, ...]) -> Pixels:
        """Return one plane as float32, scaled, with NaN for blanks."""
        try:
            with quiet(), np.errstate(over="ignore", invalid="ignore"):
                numbers = hdu.section[(*index, slice(None), slice(None))]
                return np.ascontiguousarray(numbers, dtype="<f4")
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  astropy's errors have no common base
            raise self.unreadable(error) from None

    def header_alone(self) -> FitsHeader:
        """Return the first header of a file without an image, unless the image is what is missing of it."""
        if self.notes:
            raise self.unreadable("no image in what there is of it")
        header: FitsHeader = self.hdus[0].header
        return header

    def unreadable(self, error: object) -> UnreadableError:
        cut = next((match for note in self.notes if (match := _LENGTHS.search(note))), None)
        if cut is not None:
            what = f"cut short: {cut[1]} of {cut[2]} bytes are there"
        elif any("validating header" in note for note in self.notes):
            what = "cut short in the header of an extension"
        else:
            what = f"not readable as FITS: {one_line(error).partition('. If this')[0]}"
        return UnreadableError(f"{self.path}: {what}; expected a complete FITS file")


def _check_beginning(path: Path) -> None:
    """Refuse a file whose first header does not end: astropy would read all of it, whatever its size, to find out."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == _GZIP_MAGIC
    with gzip.open(path) if zipped else path.open("rb") as file:
        for number in range(MAX_FILE_HEADER_BYTES // BLOCK_BYTES):
            block = file.read(BLOCK_BYTES)
            # What is cut short, or is no FITS at all, is told by how astropy fails.
            if not block or not (number or block.startswith(b"SIMPLE")) or end_of_cards(block) >= 0:
                return
    raise UnreadableError(
        f"{path}: a header without END in {MAX_FILE_HEADER_BYTES} bytes; expected a complete FITS file"
    )


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    if not path.is_file():
        raise UnreadableError(f"{path}: no such file")
    with contextlib.suppress(OSError, EOFError, zlib.error):
        _check_beginning(path)
    file = _File(path, [])
    failure: Exception | None = None
    with contextlib.ExitStack() as stack:
        with noted() as file.notes:
            try:
                # Not mapped: a section reads no more than a plane in any case, its bytes must be swapped, which is a
                # copy, and who shortens a mapped file while it is read kills the reader with SIGBUS.
                hdus = stack.enter_context(fits.open(path, mode="readonly", memmap=False, lazy_load_hdus=True))
                file.hdus = list(hdus)
            except Exception as error:  # noqa: BLE001  as above
                failure = error
        if failure is not None:
            raise file.unreadable(failure)
        yield file


def _layout(hdu: Any) -> Layout | None:
    """Return the axes of an HDU when it is an image in its own right."""
    if not hdu.is_image or hdu.name.upper() in NOT_IMAGES:
        return None
    try:
        with quiet():
            return read_layout(hdu.header)
    except LayoutError:
        return None


def _with_primary(hdu: Any, primary: Any) -> FitsHeader:
    """Return the header of an extension with what only the primary header says, as most cameras write it."""
    header: FitsHeader = hdu.header
    if hdu is primary or primary.header.get("NAXIS", 0) > 0 or header.get("INHERIT") is False:
        return header
    merged = header.copy()
    for card in primary.header.cards:
        if card.keyword not in _OWN_TO_EACH and card.keyword not in header:
            merged.append(card)
    return merged


def _origin(path: Path | str, number: int, plane: str) -> str:
    return f"{path}{f'[{number}]' if number else ''}{f' {plane}' if plane else ''}"
