"""Forgiving access to the cards of a FITS header: what is missing and what is bad is collected, never raised."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from astropy.io.fits import Header as FitsHeader
from astropy.io.fits.card import Undefined

from trapline.schemas.image import Reason

V = TypeVar("V")

HEADER = "header"
"""Name of the check that a header is readable, complete and consistent."""


class Found(NamedTuple, Generic[V]):
    """A value, and the keys that it came from."""

    value: V
    key: str


@dataclass(slots=True)
class Findings:
    """What is wrong with a header, in the order in which it was found."""

    faults: list[str] = field(default_factory=list)
    """what makes the image unfit: a key that is missing or bad"""
    gaps: list[str] = field(default_factory=list)
    """what is missing and can be done without"""
    flags: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Note what makes the image unfit, once."""
        if text not in self.faults:
            self.faults.append(text)

    def gap(self, flag: str, text: str) -> None:
        """Note what is missing and can be done without."""
        self.gaps.append(text)
        self.flag(flag)

    def flag(self, flag: str) -> None:
        """Note what is odd, once."""
        if flag not in self.flags:
            self.flags.append(flag)

    def reasons(self) -> list[Reason]:
        """Return the reasons to reject the image, none when nothing makes it unfit.

        Once an image is rejected the gaps are named as well: who mends the header wants to know all of them.
        """
        return [Reason(HEADER, text) for text in [*self.faults, *self.gaps]] if self.faults else []


class Cards:
    """A FITS header whose keys may be missing, blank, misspelt or of the wrong type."""

    def __init__(self, header: FitsHeader, findings: Findings | None = None) -> None:
        self.header = header
        self.findings = findings if findings is not None else Findings()
        # The first card of a key counts. Asking the header itself costs fifty times as much per key.
        self._cards: dict[str, Any] = {}
        self._values: dict[str, str | float | bool | None] = {}
        for card in header.cards:
            self._cards.setdefault(card.keyword, card)

    def __contains__(self, key: str) -> bool:
        return key in self._cards

    def raw(self, key: str) -> str | float | bool | None:
        """Return the value of a card; None when it is missing or blank. A card that does not parse is a fault."""
        key = key.upper()
        if key not in self._values:
            self._values[key] = self._parsed(key)
        return self._values[key]

    def _parsed(self, key: str) -> str | float | bool | None:
        if key not in self._cards:
            return None
        try:
            value: Any = self._cards[key].value
        except Exception as error:  # noqa: BLE001  a card may hold anything: astropy's parser has no common error
            self.findings.fault(f"{key} is unreadable: {one_line(error)}")
            return None
        if value is None or isinstance(value, Undefined) or (isinstance(value, str) and not value.strip()):
            return None
        return value.strip() if isinstance(value, str) else value

    def text(self, *keys: str) -> Found[str] | None:
        """Return the first of these keys that has a value, as text."""
        for key in keys:
            value = self.raw(key)
            if value is not None:
                return Found(str(value), key)
        return None

    def number(self, *keys: str) -> Found[float] | None:
        """Return the first of these keys that has a value, as a number; also from text, also infinite or NaN."""
        for key in keys:
            value = self.raw(key)
            if value is None:
                continue
            number = to_number(value)
            if number is not None:
                return Found(number, key)
            self.findings.fault(f"{key} is {value!r}; expected a number")
        return None

    def finite(self, *keys: str) -> Found[float] | None:
        """Return the first of these keys that has a finite number; others are faults."""
        for key in keys:
            found = self.number(key)
            if found is not None and math.isfinite(found.value):
                return found
            if found is not None:
                self.findings.fault(f"{key} is {found.value}; expected a finite number")
        return None

    def history(self) -> str:
        """Return the HISTORY cards, one a line."""
        try:
            lines: Any = self.header.get("HISTORY", ())
            return "\n".join(str(line) for line in lines)
        except Exception:  # noqa: BLE001  as in `raw`; what the history says is never needed
            return ""


def to_number(value: object) -> float | None:
    """Return a card's value as a number; None when it is not one. Fortran's exponents (1.5D3) count."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(str(value).replace("D", "E").replace("d", "e"))
    except ValueError:
        return None


def one_line(error: object) -> str:
    """Return the first line of an error's text: astropy's and wcslib's have many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def parse_cards(data: bytes) -> FitsHeader:
    """Return the header in 80-character cards; the values are read when they are asked for."""
    return FitsHeader.fromstring(data.decode("ascii", errors="replace"))


# The filters of warnings belong to the whole process, and images are described in threads.
_FILTERS = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the remarks of astropy and ERFA on old headers: what is wrong is in the findings."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect such remarks in place of showing them; they are in the list when the context ends."""
    notes: list[str] = []
    with _FILTERS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield notes
        finally:
            notes += [str(warning.message) for warning in caught or ()]
