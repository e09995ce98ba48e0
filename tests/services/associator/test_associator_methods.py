"""The rules of each method, on candidates made by hand, and the registry."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trapline.associator.association import associate
from trapline.associator.candidates import Candidates
from trapline.associator.catalogue import Catalogue, Positions
from trapline.associator.config import AssociatorConfig
from trapline.associator.methods import Method, deruiter, method_named, nearest, optimal

Pair = tuple[int, str, float]
"""(rank of the source, name of the object, radius)"""


def candidates(pairs: list[Pair], log_area: float = 0.0) -> Candidates:
    names = [name for _, name, _ in pairs]
    return Candidates(
        source=np.array([source for source, _, _ in pairs], np.intp),
        object_row=np.array([sorted(set(names)).index(name) for name in names], np.intp),
        object_key=np.array([[0, ord(name)] for name in names], np.uint64).reshape(-1, 2),
        deruiter=np.array([r for _, _, r in pairs], float),
        log_area=np.full(len(pairs), log_area),
    )


def kept(method: Method, pairs: list[Pair]) -> set[str]:
    chosen = method(candidates(pairs))
    keys = chosen.object_key[:, 1].tolist()
    return {f"{source}{chr(key)}" for source, key in zip(chosen.source.tolist(), keys, strict=True)}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([(0, "a", 1.0), (1, "b", 2.0)], "0a 1b", id="one to one"),
        pytest.param([(0, "a", 1.0), (1, "a", 5.0), (2, "a", 0.0)], "0a 1a 2a", id="one to many: all are kept"),
        pytest.param([(0, "a", 1.0), (0, "b", 5.0), (0, "c", 0.0)], "0a 0b 0c", id="many to one: all are kept"),
        pytest.param(
            [(0, "a", 1.0), (0, "b", 2.0), (1, "a", 2.0), (1, "b", 1.0)], "0a 1b", id="many to many: each its nearest"
        ),
        pytest.param(
            [(0, "a", 1.0), (0, "b", 2.0), (1, "a", 1.5), (1, "b", 2.0)], "0a 1a", id="both the same: it forks"
        ),
        pytest.param([(0, "a", 2.0), (0, "b", 1.0), (1, "a", 3.0)], "0b 1a", id="a source with one candidate keeps it"),
        pytest.param([(0, "a", 2.0), (0, "b", 1.0), (0, "c", 1.5), (1, "a", 3.0)], "0b 1a", id="any of which"),
        # Of a chain, source 2 has one candidate (c), which has two sources: 1 falls back to b, 0 is not touched
        # by what 1 does: both a and b are its candidates, and b has two sources, so it keeps its nearest.
        pytest.param(
            [(0, "a", 2.0), (0, "b", 1.0), (1, "b", 1.0), (1, "c", 2.0), (2, "c", 4.0)], "0b 1b 2c", id="a chain"
        ),
        pytest.param([(0, "b", 1.0), (0, "a", 1.0), (1, "a", 2.0)], "0a 1a", id="a tie goes to the smaller id"),
    ],
)
def test_deruiter_reduces_many_to_many_at_once_on_the_original_lists(pairs: list[Pair], expected: str) -> None:
    assert kept(deruiter, pairs) == set(expected.split())
    for order in itertools.islice(itertools.permutations(pairs), 24):
        assert kept(deruiter, list(order)) == set(expected.split())


def test_the_likeliest_as_a_whole_is_not_the_nearest_first() -> None:
    pairs = [(0, "a", 1.0), (0, "b", 1.5), (1, "a", 1.2), (1, "b", 5.0)]
    # Nearest: 0a, and 1 is left with b at 5. As a whole 0b and 1a cost (1.5^2 + 1.2^2) / 2 < (1 + 25) / 2.
    assert kept(nearest, pairs) == {"0a", "1b"}
    assert kept(optimal, pairs) == {"0b", "1a"}
    assert kept(deruiter, pairs) == {"0a", "1a"}


def test_the_optimum_weighs_the_errors_too() -> None:
    # Equal radii: the object whose errors are smaller explains the offset better.
    pairs = candidates([(0, "a", 2.0), (0, "b", 2.0)])
    wide = Candidates(pairs.source, pairs.object_row, pairs.object_key, pairs.deruiter, np.array([1.0, 0.0]))
    assert optimal(wide).object_row.tolist() == [1]


@st.composite
def groups(draw: st.DrawFn) -> list[Pair]:
    size = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    every = [(source, chr(97 + k)) for source in range(size[0]) for k in range(size[1])]
    chosen = draw(st.lists(st.sampled_from(every), unique=True, max_size=12))
    return [(source, name, draw(st.integers(0, 5000)) / 1000) for source, name in chosen]


def best(pairs: list[Pair]) -> tuple[int, float]:
    """Return (most pairs, their smallest cost) of all one-to-one choices."""
    found = (0, 0.0)
    for size in range(1, min(len(pairs), 5) + 1):
        for choice in itertools.combinations(pairs, size):
            if len({s for s, _, _ in choice}) == len({o for _, o, _ in choice}) == size:
                cost = math.fsum(r * r / 2 for _, _, r in choice)
                found = min(found, (-size, cost))
    return found


@settings(max_examples=150, deadline=None)
@given(groups())
def test_optimal_is_the_best_of_all_choices(pairs: list[Pair]) -> None:
    chosen = optimal(candidates(pairs))
    assert len(set(chosen.source.tolist())) == len(set(chosen.object_row.tolist())) == len(chosen)
    size, cost = best(pairs)
    assert -len(chosen) == size
    assert math.fsum(chosen.deruiter**2 / 2) == pytest.approx(cost, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(groups(), st.randoms(use_true_random=False))
@pytest.mark.parametrize("name", ["deruiter", "nearest", "optimal"])
def test_no_method_depends_on_the_order_of_the_pairs(name: str, pairs: list[Pair], random: object) -> None:
    shuffled = sorted(pairs, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert kept(method_named(name), pairs) == kept(method_named(name), shuffled)


@settings(max_examples=150, deadline=None)
@given(groups())
def test_no_object_is_both_forked_and_shared(pairs: list[Pair]) -> None:
    chosen = deruiter(candidates(pairs))
    assert not ((chosen.objects_per_source() > 1) & (chosen.sources_per_object() > 1)).any()
    assert {source for source, _, _ in pairs} == set(chosen.source.tolist()), "no source loses its last candidate"


def none_of_them(pairs: Candidates) -> Candidates:
    """Keep no pair: a method of somebody else."""
    return pairs.take(np.zeros(0, np.intp))


def twice(pairs: Candidates) -> Candidates:
    """Keep each pair twice: what no method may do."""
    return pairs.take(np.repeat(np.arange(len(pairs)), 2))


def one_object() -> tuple[Positions, Catalogue]:
    at = Positions(*(np.array([value]) for value in (10.0, 50.0, 0.01, 0.01)))
    catalogue = Catalogue()
    catalogue.move(catalogue.found(np.zeros((1, 16), np.uint8), at, 0), at)
    return at, catalogue


def test_a_method_of_ones_own_is_named_by_its_module() -> None:
    at, catalogue = one_object()
    own = AssociatorConfig(method=f"{__name__}:none_of_them")
    assert associate(at, catalogue, 1.0, own).object_row.tolist() == [-1]
    assert associate(at, catalogue, 1.0, AssociatorConfig()).object_row.tolist() == [0]


def test_a_method_that_returns_nonsense_is_named() -> None:
    at, catalogue = one_object()
    with pytest.raises(ValueError, match=r"twice.*keeps pairs twice"):
        associate(at, catalogue, 1.0, AssociatorConfig(method=f"{__name__}:twice"))


@pytest.mark.parametrize("name", ["deRuiter", "no.such.module:f", "trapline.associator.methods:nothing", ":"])
def test_an_unknown_method_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(ValidationError, match=r"there is no method|cannot be imported"):
        AssociatorConfig(method=name)
