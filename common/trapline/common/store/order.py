"""The order of a list: by a column instead of by time, page by page from where the last one ended.

A page is found by one pass over the rows that pass the filters, not by an index: an index on a value that changes with
every point would cost the writer more than it saves the reader. No list has a row per point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from trapline.common.store.units import in_jansky


class Sort(msgspec.Struct, frozen=True):
    """How a column is sorted: a SQL expression that is a number, or a text."""

    expression: str
    text: bool = False

    def ordered(self, *, descending: bool) -> str:
        """Return what rows are ordered by. Numbers that were not measured come last, whichever way."""
        if self.text:
            return f"coalesce({self.expression}, '')"
        last = "-Infinity" if descending else "Infinity"
        return f"coalesce(nullif(({self.expression})::float8, 'NaN'), '{last}')"

    def value(self, at: str | None) -> float | str:
        """Return what the address of a page says of the row at its edge, as the column has it.

        Raises
        ------
        ValueError
            When it is no number where one is needed.
        """
        if self.text:
            return at or ""
        try:
            value = float(at or "")
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise ValueError(f"at = {at!r} is no number: follow the links of a page")
        return value


class Order(msgspec.Struct, frozen=True):
    """By which column a list is sorted, and from where."""

    column: str
    descending: bool = True
    at: str | None = None
    """``at`` of the row behind or before which a page begins"""


class Sequence(NamedTuple):
    """SQL of the order of a list: by its key, and before that by a column if one was chosen."""

    key: str
    sort: Sort | None = None
    descending: bool = True
    start: str | None = None

    @property
    def at(self) -> str:
        """What rows are sorted by; empty when it is their key alone."""
        return self.sort.ordered(descending=self.descending) if self.sort else ""

    def beyond(self, row: UUID, arguments: list[Any], *, ahead: bool) -> str:
        """Return the condition of rows behind one, or ahead of it, and put what it refers to behind the arguments."""
        sign = "<" if self.descending != ahead else ">"
        arguments.append(row)
        n = len(arguments)
        if self.sort is None:
            return f"{self.key} {sign} ${n}"
        arguments.append(self.sort.value(self.start))
        return f"({self.at}, {self.key}) {sign} (${n + 1}, ${n})"

    def clause(self, *, backwards: bool) -> str:
        """Return what stands behind ORDER BY."""
        way = "DESC" if self.descending != backwards else "ASC"
        return ", ".join(f"{one} {way}" for one in (self.at, self.key) if one)


def sequence(key: str, sorts: Mapping[str, Sort], order: Order | None) -> Sequence:
    """Return the order of a list.

    Raises
    ------
    ValueError
        Naming the columns by which this list can be sorted.
    """
    if order is None:
        return Sequence(key)
    if order.column not in sorts:
        raise ValueError(
            f"this list is not sorted by {order.column!r}; it is by {', '.join(sorts)}, with - before it down"
        )
    return Sequence(key, sorts[order.column], order.descending, order.at)


def number(expression: str) -> Sort:
    """Return how numbers are sorted."""
    return Sort(expression)


def flux(expression: str, unit: str) -> Sort:
    """Return how fluxes are sorted: flux densities as such, whatever their unit; others as they are."""
    return Sort(f"coalesce({in_jansky(expression, unit)}, {expression})")


def moment(expression: str) -> Sort:
    """Return how times are sorted."""
    return Sort(f"extract(epoch FROM {expression})")


def words(expression: str) -> Sort:
    """Return how texts are sorted."""
    return Sort(expression, text=True)
