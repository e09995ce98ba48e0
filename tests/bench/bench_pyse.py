"""`pyse`: the extractor beside PySE on the same images: time, completeness, false detections, and pulls of both.

PySE is what TraP measures images with. Each of its ways is compared with the way of ours that does the same: Gaussian
fits with the axes of the beam, and its vectorised moments with our fits of free axes. Thresholds, mesh and margin are
the same; both get the pixels from memory. Sources are matched with the truth, one to one. Pulls are those of sources of
8 sigma and more that stand alone. No target: science.md has those of ours.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from bench.harness import Comparison, InvalidRunError, Note, Size, in_pairs
from bench.opponents import opponent_python
from bench.pyse import PACKAGES, Pyse, found_of, pyse, write_fits
from extractor_skies import PIXEL_DEG, Field, columns_of, make_image
from extractor_truth import Found, Score, curves, random_field
from trapline.common.wcs import wcs_cards
from trapline.schemas.image import Beam, Image
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure

_MARGIN_PX, _DETECTION, _ANALYSIS, _MESH_PX = 10, 5.0, 3.0, 50
_SNR, _EDGES = (3.0, 300.0), (5.0, 6.0, 8.0, 12.0, 300.0)
_THEIRS = {"margin": _MARGIN_PX, "detection_thr": _DETECTION, "analysis_thr": _ANALYSIS, "back_size_x": _MESH_PX,
           "back_size_y": _MESH_PX}  # fmt: skip
_REAL = ("ami-SWIFT_554620-130504.fits", "lofar-GRB201006A-2min.fits")
_DATA = Path(__file__).parents[1] / "data" / "real"
_BEAM = Beam(5.5 * PIXEL_DEG, 4.5 * PIXEL_DEG, 30.0)


class _Way(NamedTuple):
    """The same in both programs."""

    name: str
    force_beam: bool
    theirs: dict[str, Any]

    @property
    def settings(self) -> ExtractorConfig:
        thresholds = {"detection_threshold": _DETECTION, "analysis_threshold": _ANALYSIS, "mesh_radio_px": _MESH_PX}
        return ExtractorConfig.model_validate({**thresholds, "force_beam": self.force_beam})


WAYS = (
    _Way("fits with the axes of the beam", force_beam=True, theirs={**_THEIRS, "force_beam": True}),
    _Way("free axes, theirs vectorised", force_beam=False, theirs={**_THEIRS, "vectorized": True}),
)


class _Load(NamedTuple):
    side_px: int
    n_sources: tuple[int, ...]
    images: int
    pairs: int


_LOADS: dict[Size, _Load] = {"small": _Load(384, (40,), 2, 3), "full": _Load(1024, (100, 1000), 12, 10)}


def side_by_side(size: Size) -> list[Comparison]:
    """Compare milliseconds per image, and note how good both are."""
    load, python = _LOADS[size], opponent_python(PACKAGES)
    with TemporaryDirectory(prefix="trapline-bench-") as place, pyse(python, Path(place)) as other:
        synthetic = [_compare(load, n, way, other, Path(place)) for n in load.n_sources for way in WAYS]
        return [*synthetic, *(_real(name, other, load.pairs) for name in _REAL)]


def _compare(load: _Load, n_sources: int, way: _Way, other: Pyse, place: Path) -> Comparison:
    image = make_image((load.side_px, load.side_px), _BEAM, margin_px=_MARGIN_PX)
    fields = [random_field(seed, image, n_sources, _SNR) for seed in range(load.images)]
    files = [write_fits(place / f"{seed}.fits", field) for seed, field in enumerate(fields)]
    ours = [Score.of(field, Found.of(measure(field.pixels, image, way.settings))) for field in fields]
    theirs = [
        Score.of(field, found_of(other.measure(file, **way.theirs)[0]))
        for field, file in zip(fields, files, strict=True)
    ]
    processor: dict[str, list[float]] = {"ours": [], "theirs": []}
    values = _timed(fields[0], files[0], way, other, load.pairs, processor)
    notes = {f"{name}, processor ms": 1e3 * float(np.median(spent)) for name, spent in processor.items()}
    case = f"{load.side_px} px, {n_sources} sources, {way.name}"
    return Comparison(case, "ms", *values, notes={**notes, **_quality(ours, theirs)})


def _timed(
    field: Field, file: Path, way: _Way, other: Pyse, pairs: int, processor: dict[str, list[float]]
) -> tuple[list[float], list[float]]:
    """Return milliseconds of ours and theirs, in pairs, and note the seconds of processor time."""

    def ours() -> float:
        begin, spent = time.perf_counter(), time.process_time()
        measure(field.pixels, field.image, way.settings)
        processor["ours"].append(time.process_time() - spent)
        return 1e3 * (time.perf_counter() - begin)

    def theirs() -> float:
        _, told = other.measure(file, **way.theirs)
        processor["theirs"].append(told["processor_s"])
        return 1e3 * float(told["seconds"])

    return in_pairs(ours, theirs, pairs, warm_up=1)


def _quality(ours: Sequence[Score], theirs: Sequence[Score]) -> dict[str, Note]:
    notes: dict[str, Note] = {}
    for name, scores in (("ours", ours), ("theirs", theirs)):
        curve = curves(scores, _EDGES)
        bins = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(_EDGES)]
        found = zip(bins, curve.completeness, curve.sources, strict=True)
        notes[f"{name}, completeness"] = ", ".join(f"{b} sigma {part:.3f} of {n}" for b, part, n in found)
        false = sum(int((score.source < 0).sum()) for score in scores)
        notes[f"{name}, false detections"] = f"{false} of {sum(len(score.found.x) for score in scores)}"
        notes[f"{name}, pulls"] = ", ".join(_pull(what, scores) for what in ("flux_peak", "flux_int", "x", "y"))
    return notes


def _pull(name: str, scores: Sequence[Score]) -> str:
    pull = np.concatenate([score.pulls()[name] for score in scores])
    return f"{name} {pull.mean():+.3f} +- {pull.std():.3f}"


def _real(name: str, other: Pyse, pairs: int) -> Comparison:
    """Compare what both find in a real image: who misses what of the other, and how far apart they are."""
    way, path = WAYS[0], _DATA / name
    pixels, image = real_image(path)
    columns = columns_of(measure(pixels, image, way.settings))
    theirs, _ = other.measure(path, **way.theirs)
    field = Field(pixels, image, np.zeros(0), np.zeros(0), np.zeros(0))
    values = _timed(field, path, way, other, pairs, {"ours": [], "theirs": []})
    return Comparison(f"{name}, {way.name}", "ms", *values, notes=differences(columns, theirs))


def real_image(path: Path) -> tuple[Any, Image]:
    """Return pixels and description of a real file, as read by astropy alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header, pixels = fits.getheader(path), np.squeeze(np.asarray(fits.getdata(path))).astype(np.float32)
        assert WCS(header).has_celestial
        wcs = wcs_cards(header)
    beam = Beam(header["BMAJ"], header["BMIN"], header["BPA"])
    return pixels, Image(
        id=path.name.encode()[:16], shape=pixels.shape, wcs=wcs, beam=beam, unit="Jy", margin_px=_MARGIN_PX
    )


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], reach_px: float = 2.0) -> dict[str, Note]:
    """Return how many sources both have, and how far these are apart, in pixels and in errors of theirs and ours."""
    if not len(ours["x"]) or not len(theirs["x"]):
        raise InvalidRunError("one of them found nothing in a real image")
    places = (np.stack([c["x"], c["y"]], axis=-1) for c in (theirs, ours))
    distance, row = cKDTree(next(places)).query(next(places), distance_upper_bound=reach_px)
    both = np.isfinite(distance)
    d = np.flatnonzero(both)
    flux = (ours["flux_peak"][d] - theirs["peak"][row[d]]) / np.hypot(
        ours["flux_peak_err"][d], theirs["peak_err"][row[d]]
    )
    return {
        "sources of both": f"{int(both.sum())} of {len(both)} of ours and {len(theirs['x'])} of theirs",
        "distance, px": f"median {np.median(distance[d]):.2f}, largest {distance[d].max():.2f}",
        "peaks apart, in their joint error": f"mean {flux.mean():+.2f}, largest {np.abs(flux).max():.2f}",
    }
