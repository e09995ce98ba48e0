"""Pairs of a source and an object that may be one: what a method of association chooses from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
RowNumbers = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs within the distance limit and the limit of the de Ruiter radius, (n,) each, in any order.

    Attributes
    ----------
    source
        Rank of the source in its image.
    object_row
        Row of the object in the catalogue.
    object_key
        Id of the object as two numbers that sort as ids do, (n, 2): rows differ between runs that saw other images.
    deruiter
        De Ruiter radius, dimensionless.
    log_area
        ln(s_ew s_ns) of the errors of both together, in square degrees: what turns the radius into a likelihood.
    """

    source: RowNumbers
    object_row: RowNumbers
    object_key: npt.NDArray[np.uint64]
    deruiter: Float
    log_area: Float

    def __len__(self) -> int:
        return len(self.source)

    def take(self, which: Bool | RowNumbers) -> Candidates:
        """Return some of them."""
        return Candidates(
            self.source[which],
            self.object_row[which],
            self.object_key[which],
            self.deruiter[which],
            self.log_area[which],
        )

    def ranking(self) -> RowNumbers:
        """Return their numbers by radius, then object id, then rank of the source: an order that has no ties."""
        return np.lexsort((self.source, self.object_key[:, 1], self.object_key[:, 0], self.deruiter))

    def ascending(self) -> Candidates:
        """Return all in the order of `ranking`."""
        return self.take(self.ranking())

    def objects_per_source(self) -> RowNumbers:
        """Return for each pair how many objects its source has."""
        return np.bincount(self.source).take(self.source) if len(self) else self.source

    def sources_per_object(self) -> RowNumbers:
        """Return for each pair how many sources its object has."""
        return _occurrences(self.object_row)


def _occurrences(values: RowNumbers) -> RowNumbers:
    order = np.argsort(values)
    ranked = values[order]
    first = np.nonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))[0] if len(values) else order
    result = np.ones(len(values), np.intp)
    if len(first) < len(values):
        times = np.diff(np.append(first, len(values)))
        result[order] = np.repeat(times, times)
    return result
