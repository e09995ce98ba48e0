"""Methods as plug-ins; the example, photutils, is also the independent check of ours."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extractor_skies import PIXEL_DEG, columns_of, grid_field, make_image, nearest
from trapline.schemas.image import Beam
from trapline.schemas.sources import COLUMNS
from trapline.source_extractor import methods
from trapline.source_extractor.config import ExtractorConfig
from trapline.source_extractor.core import measure
from trapline.source_extractor.methods import MethodError, method_named, ours, register
from trapline.source_extractor.rows import PixelRows
from trapline.source_extractor.scene import Scene

PLUGINS = Path(__file__).parents[3] / "deploy" / "plugins"
IMAGE = make_image((500, 640), Beam(7.0 * PIXEL_DEG, 4.5 * PIXEL_DEG, 35.0), CROTA2=20.0, margin_px=10)
PHOTUTILS = ExtractorConfig(method="photutils_method:extract")


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Forget afterwards what a test registers, and find the example as a user would let it be found."""
    monkeypatch.setattr(methods, "_methods", dict(methods._methods))
    monkeypatch.syspath_prepend(str(PLUGINS))
    yield
    sys.modules.pop("photutils_method", None)


def test_the_example_agrees_with_ours() -> None:
    field = grid_field(11, IMAGE, spacing_px=55.0, snr=(12, 300))
    mine = columns_of(measure(field.pixels, IMAGE, ExtractorConfig()))
    theirs = columns_of(measure(field.pixels, IMAGE, PHOTUTILS))
    COLUMNS.check(theirs)
    distance, row = nearest(theirs, mine["x"], mine["y"])
    assert len(mine["x"]) == len(theirs["x"]) == len(field.x)
    assert distance.max() < 0.5
    # The same pixels, but other windows and no errors in common: they differ by less than either does from the truth.
    flux = (theirs["flux_peak"][row] - mine["flux_peak"]) / mine["flux_peak_err"]
    east = (theirs["x"][row] - mine["x"]) * PIXEL_DEG / mine["ra_err_deg"]
    for difference in (flux, east):
        assert abs(difference.mean()) < 0.1
        assert difference.std() < 0.6
    assert theirs["major_deg"] == pytest.approx(np.full(len(row), 7.0 * PIXEL_DEG), rel=1e-5)
    assert np.array_equal(theirs["source_id"], mine["source_id"]), "ids go by place in the image, whoever measures"


def test_a_method_may_find_nothing() -> None:
    noise = np.random.default_rng(1).normal(size=(500, 640)).astype(np.float32)
    found = measure(noise, IMAGE, PHOTUTILS.model_copy(update={"detection_threshold": 50.0}))
    assert len(found.columns["x"]) == 0
    assert found.rms_min is not None


def test_a_registered_function_is_run_and_what_is_no_number_dropped() -> None:
    field = grid_field(11, IMAGE, spacing_px=55.0, snr=(50, 300))

    def lazy(scene: Scene, settings: ExtractorConfig) -> PixelRows:
        rows = ours(scene, settings)
        return replace(rows, flux_int=np.where(np.arange(len(rows)) < 3, np.nan, 2 * rows.flux_int))

    register("lazy", lazy)
    found = columns_of(measure(field.pixels, IMAGE, ExtractorConfig(method="lazy")))
    expected = columns_of(measure(field.pixels, IMAGE, ExtractorConfig()))
    assert len(found["x"]) == len(expected["x"]) - 3
    assert np.isin(found["flux_int"], 2 * expected["flux_int"]).all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("photoutils", "there is no method 'photoutils': use trapline, or"),
        ("no_such_module:extract", "No module named 'no_such_module'"),
        ("photutils_method:extrakt", "no attribute 'extrakt'"),
        ("photutils_method:FWHM_PER_SIGMA", "not a function but float"),
    ],
)
def test_a_method_that_is_not_there_is_refused(name: str, text: str) -> None:
    with pytest.raises(MethodError, match=text):
        method_named(name)


def test_a_method_that_returns_something_else_is_refused() -> None:
    pixels = np.random.default_rng(1).normal(size=(500, 640)).astype(np.float32)
    register("bad", lambda scene, settings: {"x": [1.0]})  # type: ignore[arg-type,return-value]
    with pytest.raises(MethodError, match="returned dict, not PixelRows"):
        measure(pixels, IMAGE, ExtractorConfig(method="bad"))
    register("short", lambda scene, settings: replace(ours(scene, settings), rms=np.ones(77)))
    with pytest.raises(MethodError, match=r"rms has the shape \(77,\) for 0 sources"):
        measure(pixels, IMAGE, ExtractorConfig(method="short"))
