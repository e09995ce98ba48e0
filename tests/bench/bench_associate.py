"""`associate`, `flat-associator`: the associator's calculation alone, in this process.

`flat-associator` folds a night but for its end first. Then the images at its end and those at the beginning of another
state, of the same field, are timed in pairs: a last hundred that is timed a minute after the first would compare the
machine with itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

import associator_images
from bench.harness import Comparison, InvalidRunError, Note, Size, Target, in_pairs, percentile, seconds_of, watched
from bench.helpers import resident_bytes
from trapline.associator.association import associate, search_radius_deg
from trapline.associator.catalogue import Catalogue, Positions
from trapline.associator.config import AssociatorConfig
from trapline.associator.core import step
from trapline.associator.history import PLACE, block_of
from trapline.associator.state import AssociatorState, Sky
from trapline.associator.statistics import BandStatistics
from trapline.common.sky import unit_vectors
from trapline.schemas.image import Image
from trapline.schemas.message import Message
from trapline.schemas.sources import Sources

Float = npt.NDArray[np.float64]

_BEAM_DEG = 0.05
_ERROR_DEG = 0.002
_RA_DEG, _DEC_DEG = 150.0, 30.0
_FIRST = 10  # images after which the first hundred begins
_SETTINGS = AssociatorConfig()


@dataclass(frozen=True, slots=True)
class _Field:
    """The true positions of the sources of a field, and images of it."""

    ra_deg: Float
    dec_deg: Float
    shape: tuple[int, int] = (1200, 1200)

    def measured(self, number: int) -> Positions:
        """Return the positions as image `number` has them: each with the noise of its errors."""
        rng, errors = np.random.default_rng(number), np.full(len(self.ra_deg), _ERROR_DEG)
        east, north = rng.normal(0, _ERROR_DEG, (2, len(self.ra_deg)))
        return Positions(
            (self.ra_deg + east / np.cos(np.radians(self.dec_deg))) % 360, self.dec_deg + north, errors, errors
        )

    def image(self, number: int) -> tuple[Image, Message[Sources]]:
        """Return image `number` and its sources."""
        image = associator_images.image(number, ra_deg=_RA_DEG, dec_deg=_DEC_DEG, shape=self.shape, beam_deg=_BEAM_DEG)
        at = self.measured(number)
        return image, associator_images.sources(image, at.ra_deg, at.dec_deg, error_deg=_ERROR_DEG)


@dataclass(slots=True)
class _Run:
    """A state that takes one image of a field after the other."""

    field: _Field
    number: int = 0
    state: AssociatorState = field(default_factory=AssociatorState)
    step_s: list[float] = field(default_factory=list[float])

    def fold(self) -> float:
        """Fold the next image, and return how long that took."""
        image, measured = self.field.image(self.number)
        self.number += 1
        seconds = seconds_of(lambda: step(self.state, image, measured, _SETTINGS))
        self.step_s.append(seconds)
        return seconds


def associate_many(size: Size) -> list[Comparison]:
    """Compare milliseconds to join the sources of an image with a catalogue of the whole sky."""
    n_objects, n_sources, pairs = (1_000_000, 10_000, 30) if size == "full" else (100_000, 1_000, 5)
    before = resident_bytes()
    sky = whole_sky(n_objects)
    per_object = (resident_bytes() - before) / n_objects
    run = _Run(_nearest(sky.catalogue, n_sources), 1, AssociatorState(skies={"default": sky}))
    everywhere = sky.catalogue.positions(np.arange(n_objects))
    tree = cKDTree(unit_vectors(everywhere.ra_deg, everywhere.dec_deg))

    def ours() -> float:
        image, _ = run.field.image(run.number)
        at = run.field.measured(run.number)
        radius_deg = search_radius_deg(image.beam, _SETTINGS)
        milliseconds = 1e3 * seconds_of(lambda: associate(at, sky.catalogue, radius_deg, _SETTINGS))
        run.fold()  # so that the next image meets objects that have moved
        return milliseconds

    def bare() -> float:
        at = run.field.measured(run.number)
        vectors, chord = unit_vectors(at.ra_deg, at.dec_deg), np.radians(1.5 * _BEAM_DEG)
        return 1e3 * seconds_of(lambda: tree.query(vectors, distance_upper_bound=chord))

    values = in_pairs(ours, bare, pairs, warm_up=2)
    if len(sky.catalogue) > 1.01 * n_objects:
        raise InvalidRunError(f"{len(sky.catalogue) - n_objects} sources founded objects: they should have matched")
    notes: dict[str, Note] = {
        "bytes per object, without history": per_object,
        "bytes per object and band of a full history, which features need": _history_bytes(),
        "a whole step of the associator, ms": 1e3 * percentile(run.step_s, 50),
    }
    return [Comparison(f"{n_sources:,} sources, {n_objects:,} objects", "ms", *values, Target("<=", 3.0), notes)]


def flat(size: Size) -> list[Comparison]:
    """Compare milliseconds per image at the end of a night with those at its beginning."""
    images, pairs, n_sources = (10_000, 100, 1_000) if size == "full" else (300, 20, 100)
    rng = np.random.default_rng(1)
    stars = _Field(_RA_DEG + rng.uniform(-9, 9, n_sources), _DEC_DEG + rng.uniform(-9, 9, n_sources))
    night, beginning = _Run(stars), _Run(stars)
    for _ in watched(range(images - pairs)):
        night.fold()
    for _ in range(_FIRST):
        beginning.fold()
    before = resident_bytes()
    ours, baseline = in_pairs(lambda: 1e3 * night.fold(), lambda: 1e3 * beginning.fold(), pairs, warm_up=0)
    objects = len(night.state.skies["default"].catalogue)
    notes: dict[str, Note] = {"objects": objects, "memory, MB": before / 1e6}
    case = f"{images:,} images of {n_sources:,} sources"
    return [Comparison(case, "ms", ours, baseline, Target("<=", 1.05), notes)]


def _history_bytes() -> float:
    """Return what the newest points of an object take when there are as many as are kept."""
    return float(PLACE.itemsize + block_of(_SETTINGS.history_points).itemsize)


def whole_sky(n_objects: int) -> Sky:
    """Return a state that has seen every object once."""
    rng = np.random.default_rng(2)
    errors = np.full(n_objects, _ERROR_DEG)
    dec_deg = np.degrees(np.arcsin(rng.uniform(-1, 1, n_objects)))
    positions = Positions(rng.uniform(0, 360, n_objects), dec_deg, errors, errors)
    ids = rng.integers(0, 256, (n_objects, 16), np.uint8)
    sky = Sky(catalogue=Catalogue(), n_measured=1, watermark_us=associator_images.T0_US)
    rows = sky.catalogue.found(ids, positions, associator_images.T0_US)
    sky.catalogue.move(rows, positions)
    statistics = sky.bands.setdefault(("60 MHz", "I"), BandStatistics())
    statistics.add(rows, np.ones(n_objects), np.full(n_objects, 0.1), blind=True, t_us=associator_images.T0_US)
    sky.look_around()
    # The first search plants the index.
    associate(positions.take(rows[:1]), sky.catalogue, _BEAM_DEG, _SETTINGS)
    return sky


def _nearest(catalogue: Catalogue, n_sources: int) -> _Field:
    """Return the field of the objects nearest to a position, in the order of declination, as an image has them."""
    positions = catalogue.positions(np.arange(len(catalogue)))
    depth = unit_vectors(positions.ra_deg, positions.dec_deg) @ unit_vectors(_RA_DEG, _DEC_DEG)
    chosen = np.argpartition(-depth, n_sources)[:n_sources]
    chosen = chosen[np.argsort(positions.dec_deg[chosen])]
    return _Field(positions.ra_deg[chosen], positions.dec_deg[chosen])
