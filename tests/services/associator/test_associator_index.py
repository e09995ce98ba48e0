from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from trapline.associator.index import Gate, SkyIndex
from trapline.common.sky import unit_vectors

Float = npt.NDArray[np.float64]


def needed(here: Float, errors: Float, vectors: Float, error_deg: float, gate: Gate) -> set[tuple[int, int]]:
    """Return the pairs that must be found, by looking at every pair."""
    chord = np.linalg.norm(vectors[:, None] - here[None], axis=2)
    radius = 2 * np.sin(np.radians(gate.radius_deg) / 2)
    sigmas = np.radians(gate.sigmas * np.hypot(error_deg, errors))
    return set(zip(*(axis.tolist() for axis in np.nonzero((chord <= radius) & (chord <= sigmas))), strict=True))


def scattered(rng: np.random.Generator, centre: tuple[float, float], count: int, width: float) -> Float:
    vectors = unit_vectors(*centre) + rng.normal(0, width, (count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1)[:, None])


@pytest.mark.parametrize("centre", [(0.0, 0.0), (359.9, -40.0), (0.0, 90.0), (180.0, -90.0)])
def test_every_pair_within_the_gate_is_found_while_objects_come_and_move(centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(11)
    index, here, errors = SkyIndex(), np.zeros((0, 3)), np.zeros(0)
    for turn in range(60):
        new = scattered(rng, centre, int(rng.integers(0, 60)), 0.05)
        new_errors = rng.uniform(0.01, 2.0, len(new))
        index.insert(new, new_errors)
        here, errors = np.concatenate([here, new]), np.concatenate([errors, new_errors])
        rows = rng.permutation(len(here))[: len(here) // 3]
        far = 10.0 ** rng.uniform(-6, -1)
        moved = here[rows] + rng.normal(0, far, (len(rows), 3))
        here[rows] = moved / np.linalg.norm(moved, axis=1)[:, None]
        errors[rows] *= 0.9
        index.move(rows, here[rows], errors[rows])
        vectors = scattered(rng, centre, 20, 0.05)
        gate, error_deg = Gate(10.0 ** rng.uniform(-4, 1.5), 5.68), 10.0 ** rng.uniform(-4, 0)
        near, found = index.near(vectors, error_deg, gate)
        pairs = list(zip(near.tolist(), found.tolist(), strict=True))
        assert len(set(pairs)) == len(pairs), turn
        assert pairs == sorted(pairs)
        assert needed(here, errors, vectors, error_deg, gate) <= set(pairs), turn
        # It may look further than asked, but not without end.
        wide = Gate(3 * gate.radius_deg + 1e-5, 1e9)
        assert set(pairs) <= needed(here, errors, vectors, error_deg, wide), turn


def test_objects_that_drift_a_little_are_found_at_the_very_edge() -> None:
    rng = np.random.default_rng(12)
    index, here = SkyIndex(), scattered(rng, (0.0, 0.0), 4000, 0.05)
    errors, gate, error_deg = np.full(4000, 0.1), Gate(1.0, 5.68), 0.3
    index.insert(here, errors)
    chord = gate.chord(error_deg, 0.1)
    index.near(here[:1], error_deg, gate)
    (tree,) = index._trees
    for turn in range(30):
        # All go east together, by steps that are small against the radius: none is planted anew until it went far.
        east = np.cross([0.0, 0.0, 1.0], here)
        here += 0.02 * chord * east / np.linalg.norm(east, axis=1)[:, None]
        here /= np.linalg.norm(here, axis=1)[:, None]
        index.move(np.arange(4000), here, errors)
        east = np.cross([0.0, 0.0, 1.0], here[:50])
        vectors = here[:50] + 0.999 * chord * east / np.linalg.norm(east, axis=1)[:, None]
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        near, found = index.near(vectors, error_deg, gate)
        pairs = set(zip(near.tolist(), found.tolist(), strict=True))
        assert {(k, k) for k in range(50)} <= pairs
        assert needed(here, errors, vectors, error_deg, gate) <= pairs
        if turn == 3:
            assert index._trees == [tree]
    assert index._trees != [tree]


def test_an_empty_index_and_an_empty_search_find_nothing() -> None:
    index = SkyIndex()
    assert [len(a) for a in index.near(unit_vectors([1.0], [2.0]), 1.0, Gate(1.0, 5.0))] == [0, 0]
    index.insert(unit_vectors([1.0], [2.0]), np.array([1.0]))
    assert [len(a) for a in index.near(np.zeros((0, 3)), 0.0, Gate(1.0, 5.0))] == [0, 0]
    assert index.near(unit_vectors([1.0], [2.0]), 1.0, Gate(1.0, 5.0))[1].tolist() == [0]


def test_adding_objects_replants_each_a_logarithmic_number_of_times() -> None:
    rng = np.random.default_rng(5)
    index, planted = SkyIndex(), 0
    gate = Gate(0.001, 5.0)
    for _ in range(300):
        index.insert(scattered(rng, (40.0, 10.0), 100, 0.3), np.full(100, 1e-4))
        trees = {tree.serial for tree in index._trees}
        index.near(unit_vectors([40.0], [10.0]), 1e-4, gate)
        planted += sum(len(tree.rows) for tree in index._trees if tree.serial not in trees)
        assert len(index._trees) <= 8
    assert planted < 40 * 30_000
    assert sorted(np.concatenate([tree.rows for tree in index._trees]).tolist()) == list(range(30_000))


def test_objects_that_wander_for_ever_do_not_fill_the_memory() -> None:
    rng = np.random.default_rng(6)
    index, rows = SkyIndex(), np.arange(500)
    index.insert(scattered(rng, (0.0, 90.0), 500, 0.1), np.full(500, 0.1))
    for _ in range(100):
        vectors = scattered(rng, (0.0, 90.0), 500, 0.1)
        index.move(rows, vectors, np.full(500, 0.1))
        near, found = index.near(vectors, 0.1, Gate(0.01, 5.0))
        assert (np.bincount(near[near == found], minlength=500) == 1).all()
        assert sum(len(tree.rows) for tree in index._trees) <= 3 * 500 + 1024
