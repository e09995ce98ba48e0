"""Which candidates belong together: the methods of association, by name.

A method is one function: it gets the candidate pairs of an image and returns those to keep. A source that is in none
founds an object. A kept object with several sources forks; a kept source with several objects is shared by them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from trapline.associator.candidates import Bool, Candidates, Float, RowNumbers
from trapline.common.named import function_named

Method = Callable[[Candidates], Candidates]

_METHODS: dict[str, Method] = {}


def register(name: str) -> Callable[[Method], Method]:
    """Give a method a name under which `[associator] method` finds it."""

    def under_name(method: Method) -> Method:
        _METHODS[name] = method
        return method

    return under_name


def method_named(name: str) -> Method:
    """Return a method: by the name it was registered under, or as ``package.module:function``.

    Raises
    ------
    ValueError
        When there is none. The text says which there are.
    """
    return function_named("method", name, _METHODS)


@register("deruiter")
def deruiter(pairs: Candidates) -> Candidates:
    """Keep all pairs, but of a source with several objects only the nearest, when one of these has several sources.

    Everything is decided at once, on the lists as they were before; so no object is both forked and shared. Pairs of
    equal radius: the smaller object id.
    """
    crowded = pairs.sources_per_object() > 1
    if not crowded.any():
        return pairs
    sources = int(pairs.source.max(initial=-1)) + 1
    touches_crowd = np.bincount(pairs.source[crowded], minlength=sources) > 0
    reduced = touches_crowd[pairs.source] & (pairs.objects_per_source() > 1)
    rows = np.nonzero(reduced)[0]
    rows = rows[pairs.take(rows).ranking()]
    _, first = np.unique(pairs.source[rows], return_index=True)
    kept = ~reduced
    kept[rows[first]] = True
    return pairs.take(kept)


@register("nearest")
def nearest(pairs: Candidates) -> Candidates:
    """Keep pairs in ascending order of the radius, each source and each object once."""
    simple = _simple(pairs)
    kept: list[int] = []
    crowd = pairs.take(~simple).ascending()
    # One choice decides the next.
    taken_sources: set[int] = set()
    taken_objects: set[int] = set()
    for pair, (source, object_row) in enumerate(zip(crowd.source.tolist(), crowd.object_row.tolist(), strict=True)):
        if source not in taken_sources and object_row not in taken_objects:
            taken_sources.add(source)
            taken_objects.add(object_row)
            kept.append(pair)
    return _together(pairs.take(simple), crowd.take(np.array(kept, np.intp)))


@register("optimal")
def optimal(pairs: Candidates) -> Candidates:
    """Keep as many pairs as can be, each source and each object once, with the greatest likelihood of all offsets.

    The cost of a pair is the negative logarithm of the likelihood of its offset, r^2 / 2 + ln(s_ew s_ns) but for a
    constant; each group of pairs that touch one another is a bipartite matching of the smallest cost.
    """
    simple = _simple(pairs)
    crowd = pairs.take(~simple)
    kept = [pairs.take(simple), *(group.take(_cheapest(group)) for group in _groups(crowd))]
    return _together(*kept)


def _groups(pairs: Candidates) -> list[Candidates]:
    """Return pairs that are connected through their sources and objects."""
    if not len(pairs):
        return []
    objects, place = np.unique(pairs.object_row, return_inverse=True)
    sources, rank = np.unique(pairs.source, return_inverse=True)
    size = len(objects) + len(sources)
    links = coo_array((np.ones(len(pairs)), (rank, len(sources) + place)), shape=(size, size))
    _, label = connected_components(links, directed=False)
    of_pair = label[rank]
    order = np.argsort(of_pair, kind="stable")
    edges = np.nonzero(np.diff(of_pair[order]))[0] + 1
    return [pairs.take(group) for group in np.split(order, edges)]


def _cheapest(pairs: Candidates) -> RowNumbers:
    """Return the pairs of the assignment of the smallest total cost; more pairs are always better."""
    ids = np.unique(pairs.object_key, axis=0)
    column = np.array([np.nonzero((ids == key).all(axis=1))[0][0] for key in pairs.object_key], np.intp)
    _, row = np.unique(pairs.source, return_inverse=True)
    cost = pairs.deruiter**2 / 2 + pairs.log_area
    cost = cost - cost.min() + 1.0
    # A pair that is no candidate costs more than all that are.
    matrix: Float = np.full((int(row.max()) + 1, len(ids)), cost.sum() + 1.0)
    matrix[row, column] = cost
    assigned: Bool = np.zeros(matrix.shape, bool)
    assigned[linear_sum_assignment(matrix)] = True
    return np.nonzero(assigned[row, column])[0]


def _simple(pairs: Candidates) -> Bool:
    return np.asarray((pairs.objects_per_source() == 1) & (pairs.sources_per_object() == 1))


def _together(*parts: Candidates) -> Candidates:
    return Candidates(
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.object_row for part in parts]),
        np.concatenate([part.object_key for part in parts]),
        np.concatenate([part.deruiter for part in parts]),
        np.concatenate([part.log_area for part in parts]),
    )
