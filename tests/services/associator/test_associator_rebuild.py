"""The snapshot is lost and so is the old part of the journals: the state comes back from a real store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from associator_journals import Journals, associator, stored, variables_of
from associator_world import World, night, points, states
from trapline.associator.beginning import refuse_unknown_past
from trapline.cli import app
from trapline.common.config import ConfigError
from trapline.common.journal.layout import segment_files
from trapline.common.testing.relay import mesh_config, running_relay
from trapline.schemas.columns import Kind, Link
from trapline.schemas.lightcurves import Lightcurves
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources
from waiting import wait_for

IMAGES = 72
DIGITS = 9
SMALL_SEGMENTS = {"TRAPLINE__JOURNAL__CHANNELS": '{"*": {"segment_bytes": 16384}}'}


@dataclass
class Mesh:
    """Journals and a store; an associator now and then."""

    directory: Path
    dsn: str
    journals: Journals
    variables: dict[str, str]
    told: list[Message[Lightcurves]] = field(default_factory=list)
    segments: int = 0

    @property
    def snapshot(self) -> Path:
        return self.directory / "snapshots" / "associator-0.snapshot"

    def fold(self, records: Mapping[int, Message[Sources]], expected: int = 0, unanswered: int = 0) -> None:
        """Run the associator over images and answer what it asks, but for the last requests; then kill it.

        `expected` are the points that there will be in the end; 0: whatever there are.
        """
        with associator(self.directory, self.variables):
            for number, record in records.items():
                self.journals.add(number, record)
                wait_for(lambda images=number + 1: self._answered(images, unanswered))
            wait_for(lambda: self._answered(max(records) + 1, unanswered) and self._points() >= expected)

    def _answered(self, images: int, unanswered: int) -> bool:
        """Answer what is asked, and return whether all that was answered is folded."""
        answered = self.journals.answer(self.journals.said("remeasure") - unanswered)
        return self.journals.said("lightcurves") == images + answered

    def _points(self) -> int:
        self.told += self.journals.read("lightcurves", len(self.told))
        return sum(len(record.arrays["kind"]) for record in self.told)

    def store(self, until: int | None = None) -> None:
        """Store what was said, as the dumper does; points of all seconds but the newest are in segments."""
        self.segments = stored(self.dsn, list(self.journals.read("images")), self.told[:until])

    def lose(self, *channels: tuple[str, int]) -> None:
        """Lose the snapshot, and all but the newest segments of some channels."""
        self.snapshot.unlink(missing_ok=True)
        for channel, keep in channels:
            for partition in (self.journals.directory / channel).iterdir():
                for _, path in segment_files(partition)[: -keep or None]:
                    path.unlink()

    def rebuild(self, *options: str) -> Any:
        return CliRunner().invoke(app, ["associator", "rebuild", *options], env=self.variables)

    def world(self) -> World:
        world = World(np.random.default_rng(0))
        world.told = self.told
        return world


@pytest.fixture
def mesh(tmp_path: Path, dsn: str) -> Iterator[Mesh]:
    config = mesh_config(tmp_path)
    variables = variables_of(config.data_directory) | SMALL_SEGMENTS | {"TRAPLINE__DATABASE__DSN": dsn}
    journals = Journals(config.journal_directory, DIGITS, segment_bytes=1 << 14)
    with running_relay(config), contextlib.closing(journals):
        yield Mesh(config.data_directory, dsn, journals, variables)


def assert_same(world: World, undisturbed: World) -> None:
    """Check that points are the same, with the same ids, and statistics to rounding."""
    found, expected = points(world), points(undisturbed)
    assert found.keys() == expected.keys(), "the points, and so the objects, are the same"
    # Positions of forced values and de Ruiter radii follow means that were made anew: they differ by rounding.
    for k, dtype, rtol in ((5, np.float32, 1e-4), (6, float, 1e-12), (7, float, 1e-12)):
        numbers = [np.frombuffer(b"".join(one[id_][k] for id_ in expected), dtype) for one in (found, expected)]
        np.testing.assert_allclose(*numbers, rtol=rtol, atol=1e-12)
    assert all(found[id_][:5] + found[id_][8:] == expected[id_][:5] + expected[id_][8:] for id_ in expected)
    newest, again = states(undisturbed), states(world)
    assert again.keys() == newest.keys()
    values = [np.array([one[key] for key in newest]) for one in (again, newest)]
    np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-12)


def limits(world: World) -> dict[bytes, tuple[Any, ...]]:
    """Return what was said of the limits at each new object, and the misses of each forced one, by point."""
    names = ("limit_image_id", "limit_low", "limit_high", "n_earlier", "misses")
    found = {}
    for record in world.told:
        a = record.arrays
        for row in np.nonzero((a["link"] == Link.NEW) | (a["kind"] == Kind.FORCED))[0]:
            found[a["point_id"][row].tobytes()] = tuple(a[name][row].tobytes() for name in names)
    return found


def half_way(mesh: Mesh) -> tuple[World, dict[int, Message[Sources]]]:
    """Fold the first half of a night, some requests open at its end; return all undisturbed, and the other half."""
    records = night(3, IMAGES)
    mesh.fold(dict(list(enumerate(records))[: IMAGES // 2]), unanswered=3)
    return World(np.random.default_rng(1), digits=DIGITS).run(records), dict(list(enumerate(records))[IMAGES // 2 :])


@pytest.mark.timeout(240)
def test_from_the_store_and_the_newest_records_it_goes_on_as_if_nothing_had_happened(mesh: Mesh) -> None:
    undisturbed, rest = half_way(mesh)
    mesh.store()
    assert mesh.segments
    mesh.lose(("lightcurves", 20), ("images", 2), ("sources", 2), ("remeasure", 12), ("watchlist", 12))
    done = mesh.rebuild()
    assert done.exit_code == 0, done.output
    assert "begins at record" in done.output, "it says why the journals are not enough"
    assert "not recovered" not in done.output
    mesh.fold(rest, len(points(undisturbed)))
    world = mesh.world()
    assert_same(world, undisturbed)
    assert limits(world) == limits(undisturbed)
    forks = [sorted((f.parent, *f.children) for m in one.told for f in m.header.forks) for one in (world, undisturbed)]
    assert forks[0] == forks[1]
    assert forks[0]


@pytest.mark.timeout(240)
def test_what_is_not_stored_yet_is_taken_once_more_and_nothing_is_said_twice(mesh: Mesh) -> None:
    undisturbed, rest = half_way(mesh)
    mesh.store(until=-15)
    before = mesh.journals.counts()
    mesh.lose(("lightcurves", 30), ("watchlist", 12))
    done = mesh.rebuild("--from", "store")
    assert done.exit_code == 0, done.output
    assert "the last 15 steps that are not stored" in done.output
    assert mesh.journals.counts() == before
    mesh.fold(rest, len(points(undisturbed)))
    assert_same(mesh.world(), undisturbed)


@pytest.mark.timeout(240)
def test_with_nothing_but_the_store_known_sources_found_no_new_objects(mesh: Mesh) -> None:
    undisturbed, rest = half_way(mesh)
    mesh.store()
    mesh.lose(("lightcurves", 1), ("images", 1), ("sources", 1), ("remeasure", 1), ("watchlist", 1))
    done = mesh.rebuild()
    assert done.exit_code == 0, done.output
    mesh.fold(rest)
    blind = [{k: v[:5] for k, v in points(w).items() if v[3][0] == Kind.BLIND} for w in (mesh.world(), undisturbed)]
    assert blind[0] == blind[1]


@pytest.mark.timeout(120)
def test_it_is_refused_when_it_would_be_wrong_and_the_way_out_is_told(mesh: Mesh) -> None:
    mesh.fold(dict(list(enumerate(night(3, 12)))))
    refused = mesh.rebuild("--from", "shop")
    assert refused.exit_code == 2
    assert "auto, journals, store" in refused.output
    mesh.store(until=10)
    mesh.lose(("sources", 1))
    with associator(mesh.directory, mesh.variables) as child:
        wait_for(lambda: child.poll() is not None)
    assert child.returncode == 2, "without its snapshot it does not begin with an empty sky"
    with pytest.raises(ConfigError, match=r"snapshot of associator-0 is gone.*sources/0 begins.*associator rebuild"):
        refuse_unknown_past(mesh_config(mesh.directory), "0")
    refused = mesh.rebuild("--from", "journals")
    assert refused.exit_code == 1
    assert "--from store" in refused.output
    refused = mesh.rebuild()
    assert refused.exit_code == 1, refused.output
    assert "that are not in the store" in refused.output
    assert "trapline run database_dumper" in refused.output
    mesh.store()
    # Without a state it would end before it could be in the way.
    assert mesh.rebuild().exit_code == 0
    with associator(mesh.directory, mesh.variables):
        wait_for(lambda: "stop the associator first" in mesh.rebuild().output)
    for path in (mesh.journals.directory / "lightcurves" / "0").iterdir():
        path.unlink()
    refused = mesh.rebuild()
    assert refused.exit_code == 1
    assert "Give this host a name of its own" in refused.output
