"""How the pixels that a FITS header announces lie in memory: axes, planes, numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.io.fits import Header as FitsHeader

from trapline.image_ingest.cards import Cards, Findings, quiet

Pixels = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.generic]

MAX_AXES = 8
DTYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""BITPIX to numpy's name."""

# Fitted spectral terms, not planes at frequencies: only the first is a flux.
TERM_AXES = ("SPECLNMF", "SPECLOGF")


class LayoutError(ValueError):
    """A header that announces no image. The text names the key and what would be right."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of an array as numpy counts them, slowest first; the last two are (ny, nx)."""

    shape: tuple[int, ...]

    @property
    def pixels(self) -> int:
        """Number of pixels of all planes; Python's integers do not overflow."""
        return math.prod(self.shape)

    @property
    def plane_pixels(self) -> int:
        """Number of pixels of one plane."""
        return self.shape[-1] * self.shape[-2]


def read_layout(header: FitsHeader) -> Layout:
    """Return the axes that a header announces, or raise `LayoutError` naming the key."""
    naxis = _integer(header, "NAXIS")
    if not 2 <= naxis <= MAX_AXES:
        raise LayoutError(f"NAXIS is {naxis}; an image has 2 axes, a cube up to {MAX_AXES}")
    lengths = [_integer(header, f"NAXIS{number}") for number in range(1, naxis + 1)]
    for number, length in enumerate(lengths, start=1):
        if length < 1:
            raise LayoutError(f"NAXIS{number} is {length}; expected at least 1")
    return Layout(tuple(reversed(lengths)))


def read_bitpix(header: FitsHeader) -> int:
    """Return BITPIX, or raise `LayoutError` when it is none of FITS's."""
    bitpix = _integer(header, "BITPIX")
    if bitpix not in DTYPES:
        raise LayoutError(f"BITPIX is {bitpix}; expected one of {', '.join(map(str, DTYPES))}")
    return bitpix


def planes(header: FitsHeader, layout: Layout) -> Iterator[tuple[tuple[int, ...], FitsHeader]]:
    """Yield index and header of each plane; the header of a plane gives its own frequency and Stokes parameter."""
    lengths = layout.shape[:-2]
    with quiet():
        counts = [_fluxes(header, length, len(layout.shape) - i) for i, length in enumerate(lengths)]
    for index in itertools.product(*map(range, counts)):
        with quiet():
            plane = plane_header(header, index)
        yield index, plane


def plane_header(header: FitsHeader, index: tuple[int, ...]) -> FitsHeader:
    """Return a header whose further axes have their first pixel at this plane; the same header for the first."""
    if not any(index):
        return header
    shifted = header.copy()
    cards = Cards(header)
    for i, offset in enumerate(index):
        if offset:
            number = 2 + len(index) - i
            reference = cards.finite(f"CRPIX{number}")
            shifted[f"CRPIX{number}"] = (reference.value if reference else 1.0) - offset
    return shifted


def plane_name(index: tuple[int, ...], layout: Layout) -> str:
    """Return the name of a plane, "" when there is only one: ``plane 2,0``, slowest axis first, without short axes."""
    named = [str(k) for k, length in zip(index, layout.shape[:-2], strict=True) if length > 1]
    return f"plane {','.join(named)}" if named else ""


def physical(numbers: Numbers, header: FitsHeader) -> Pixels:
    """Return FITS's stored numbers as float32: scaled by BSCALE and BZERO, NaN where integers are BLANK."""
    cards = Cards(header, Findings())
    scale, zero, blank = cards.finite("BSCALE"), cards.finite("BZERO"), cards.finite("BLANK")
    factor, offset = scale.value if scale else 1.0, zero.value if zero else 0.0
    # What float32 cannot hold becomes infinite, which is judged later.
    with np.errstate(over="ignore", invalid="ignore"):
        if factor == 1.0 and offset == 0.0 and (blank is None or numbers.dtype.kind == "f"):
            return np.ascontiguousarray(numbers, dtype=np.float32)
        values = numbers.astype(np.float64) * factor + offset
        if blank is not None and numbers.dtype.kind != "f":
            values[numbers == blank.value] = np.nan
        return values.astype(np.float32)


def _integer(header: FitsHeader, key: str) -> int:
    findings = Findings()
    found = Cards(header, findings).finite(key)
    if found is None:
        raise LayoutError(findings.faults[0] if findings.faults else f"{key} is missing")
    if found.value != round(found.value):
        raise LayoutError(f"{key} is {found.value}; expected a whole number")
    return round(found.value)


def _fluxes(header: FitsHeader, length: int, number: int) -> int:
    ctype = Cards(header, Findings()).text(f"CTYPE{number}")
    return 1 if ctype is not None and ctype.value.upper() in TERM_AXES else length
